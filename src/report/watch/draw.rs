//! Where everything stands on the terminal. It fits into 80 columns and 24 rows; more room makes the curves larger.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, LegendPosition, Paragraph, Sparkline};

use super::Watched;
use crate::plural::plural;
use crate::report::folder::{Epoch, PHASES};
use crate::report::live::{Activity, Live};
use crate::report::{clock, percent};

/// After so many seconds without a word, a run is said to be silent: it may be dead.
const SILENT: f64 = 30.0;

/// Colours of a terminal that the colour-blind tell apart, the first for what is new: test, train, val.
const COLORS: [Color; 6] = [Color::Cyan, Color::Yellow, Color::Magenta, Color::Blue, Color::White, Color::Green];

type Get = fn(&Epoch) -> Option<f64>;

/// What a curve is called, which of the colours it has, and its points.
type Named = (&'static str, usize, Vec<(f64, f64)>);

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, watched: &Watched) {
    let area = frame.area();
    let rows = [
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Min(6),
        Constraint::Length(6),
        Constraint::Length(1),
    ];
    let [head, gauges, curves, figures, foot] = Layout::vertical(rows).areas(area);
    frame.render_widget(Paragraph::new(header(watched)), head);
    progress(frame, gauges, watched);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(curves);
    chart(
        frame,
        left,
        watched,
        "loss",
        &[("test", |e| e.test_loss), ("train", |e| e.train_loss), ("val", |e| e.val_loss)],
    );
    let accuracies: [(&str, Get); 3] =
        [("test", |e| e.test_accuracy), ("train", |e| e.train_accuracy), ("val", |e| e.val_accuracy)];
    chart(frame, right, watched, "accuracy", &accuracies);
    frame.render_widget(Block::bordered().title(" now "), figures);
    let inside = figures.inner(ratatui::layout::Margin::new(1, 1));
    let [words, spark] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(18)]).areas(inside);
    frame.render_widget(Paragraph::new(lines(watched)), words);
    speed(frame, spark, watched);
    frame.render_widget(Paragraph::new(" q ends watching, not the run").style(dim(watched)), foot);
}

fn style(watched: &Watched, index: usize) -> Style {
    let color = if watched.plain { Color::Reset } else { COLORS[index % COLORS.len()] };
    Style::default().fg(color)
}

fn dim(watched: &Watched) -> Style {
    if watched.plain { Style::default() } else { Style::default().fg(Color::DarkGray) }
}

fn header(watched: &Watched) -> Line<'static> {
    let bold = Style::default().add_modifier(Modifier::BOLD);
    let state = match (&watched.live, watched.silence()) {
        _ if watched.files.summary.is_some() => "finished".to_owned(),
        (Some(Live { activity: Activity::Evaluating, .. }), _) => "evaluating".to_owned(),
        (Some(_), Some(silence)) if silence > SILENT => format!("SILENT for {}: is it still running?", clock(silence)),
        (Some(_), _) => "training".to_owned(),
        _ => "no step yet, or killed".to_owned(),
    };
    let host = watched
        .live
        .as_ref()
        .map_or(String::new(), |live| format!(", {}, root on {}", plural(live.ranks, "rank"), live.host));
    Line::from(vec![Span::styled(format!(" {}", watched.files.name()), bold), Span::raw(format!("  {state}{host}"))])
}

/// A bar for the epoch, one for the run, and the time that is left of both.
fn progress(frame: &mut Frame<'_>, area: Rect, watched: &Watched) {
    let [first, second] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
    let ratio = |(done, all): (usize, usize)| (done as f64 / all.max(1) as f64).clamp(0.0, 1.0);
    let (of_epoch, of_run) = match (&watched.live, watched.files.epochs.last()) {
        (Some(live), _) if watched.files.summary.is_none() => {
            let epoch = format!("epoch {}/{}  {} left", live.epoch, live.epochs, clock(live.left.0));
            let run = format!(
                "run, step {} of {}  {} left, {} gone",
                live.steps.0,
                live.steps.1,
                clock(live.left.1),
                clock(live.wall_seconds)
            );
            ((ratio(live.steps_of_epoch), epoch), (ratio(live.steps), run))
        }
        (_, last) => {
            let epochs = watched.files.config.get("epochs").and_then(toml::Value::as_integer).unwrap_or(1) as usize;
            let done = last.map_or(0, |epoch| epoch.epoch);
            let wall = watched.files.summary_of("wall_seconds").and_then(serde_json::Value::as_f64);
            let run = wall.map_or("run".to_owned(), |wall| format!("run  {} in all", clock(wall)));
            let whole = if done > 0 { 1.0 } else { 0.0 };
            ((whole, format!("epoch {done}/{epochs}")), (ratio((done, epochs)), run))
        }
    };
    for (area, (ratio, label), index) in [(first, of_epoch, 0), (second, of_run, 3)] {
        let label = format!("{label}  {:.0} %", 100.0 * ratio);
        frame.render_widget(gauge(watched, index).ratio(ratio).label(label), area);
    }
}

fn gauge(watched: &Watched, index: usize) -> Gauge<'static> {
    // Without colours the filled part shows by being reversed alone.
    let filled = if watched.plain {
        Style::default().add_modifier(Modifier::REVERSED)
    } else {
        style(watched, index).bg(Color::DarkGray)
    };
    Gauge::default().gauge_style(filled).use_unicode(true)
}

fn chart(frame: &mut Frame<'_>, area: Rect, watched: &Watched, title: &str, values: &[(&'static str, Get)]) {
    let points: Vec<Named> = values
        .iter()
        .enumerate()
        .map(|(index, (name, get))| {
            let epochs = watched.files.epochs.iter();
            (*name, index, epochs.filter_map(|e| Some((e.epoch as f64, get(e)?))).collect::<Vec<_>>())
        })
        .filter(|(_, _, points)| !points.is_empty())
        .collect();
    let all = || points.iter().flat_map(|(_, _, points)| points.iter());
    let newest: Vec<String> = points
        .iter()
        .filter_map(|(name, _, points)| Some((name, points.last()?.1)))
        .map(
            |(name, value)| {
                if title == "loss" { format!("{name} {value:.4}") } else { format!("{name} {:.1} %", 100.0 * value) }
            },
        )
        .collect();
    let block = Block::bordered().title(format!(" {title}  {} ", newest.join("  ")).replace("   ", "  "));
    if points.is_empty() {
        frame.render_widget(Paragraph::new("\n no epoch is over yet").style(dim(watched)).block(block), area);
        return;
    }
    let last = all().map(|p| p.0).fold(1.0, f64::max);
    let least = all().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let most = all().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    let (from, to) = if title == "loss" { (0.0, most * 1.05 + 1e-9) } else { ((least - 0.02).max(0.0), 1.0) };
    let show = |value: f64| if title == "loss" { format!("{value:.2}") } else { format!("{:.0} %", 100.0 * value) };
    let datasets = points.iter().map(|(name, index, points)| {
        let kind = if points.len() == 1 { GraphType::Scatter } else { GraphType::Line };
        let marker = [Marker::Braille, Marker::Dot, Marker::Braille][index % 3];
        Dataset::default().name(*name).marker(marker).graph_type(kind).style(style(watched, *index)).data(points)
    });
    let x = Axis::default()
        .bounds([1.0, last.max(2.0)])
        .labels(["1".to_owned(), format!("epoch {last:.0}")])
        .style(dim(watched));
    let y =
        Axis::default().bounds([from, to]).labels([show(from), show((from + to) / 2.0), show(to)]).style(dim(watched));
    let corner = if title == "loss" { LegendPosition::TopRight } else { LegendPosition::BottomRight };
    let chart = Chart::new(datasets.collect()).block(block).x_axis(x).y_axis(y).legend_position(Some(corner));
    frame.render_widget(chart.hidden_legend_constraints((Constraint::Ratio(1, 2), Constraint::Ratio(1, 2))), area);
}

/// Seconds a phase: of the epoch so far, or where it has just begun or the run is over, of the last one.
fn seconds(watched: &Watched) -> [f64; 6] {
    let now = watched.live.as_ref().filter(|live| live.steps_of_epoch.0 > 0).map(|live| live.seconds);
    match (now, watched.files.epochs.last()) {
        (Some(s), _) => [s.load, s.forward, s.backward, s.sync, s.update, s.evaluate],
        (None, last) => PHASES.map(|phase| last.and_then(|epoch| epoch.seconds.get(phase).copied()).unwrap_or(0.0)),
    }
}

fn lines(watched: &Watched) -> Vec<Line<'static>> {
    let so_far = match &watched.live {
        Some(live) if live.steps_of_epoch.0 > 0 => {
            format!("loss {:.4}  accuracy {}  lr {:.1e}", live.loss, percent(live.accuracy), live.lr)
        }
        _ => match watched.files.epochs.last() {
            Some(last) => format!("step {}", last.step),
            None => "waiting for the first step".to_owned(),
        },
    };
    let [load, forward, backward, sync, update, evaluate] = seconds(watched);
    let total = (load + forward + backward + sync + update + evaluate).max(1e-12);
    let share = |part: f64| format!("{:.0} %", 100.0 * part / total);
    let shares = format!(
        "time: load {}  compute {}  sync {}  evaluate {}",
        share(load),
        share(forward + backward + update),
        share(sync),
        share(evaluate)
    );
    let slowest = match watched.files.epochs.last().map(|epoch| (epoch.epoch, epoch.slowest)) {
        Some((epoch, Some(slowest))) => format!(
            "slowest: rank {}, {:.1} s of computing (mean {:.1}) in epoch {epoch}",
            slowest.rank, slowest.seconds, slowest.mean
        ),
        Some((_, None)) => "slowest: one rank alone".to_owned(),
        None => "slowest: known after an epoch".to_owned(),
    };
    let checkpoint = match watched.checkpoint {
        Some((step, age)) => format!("checkpoint: step {step}, {} ago", clock(age)),
        None => "checkpoint: none yet".to_owned(),
    };
    [so_far, shares, slowest, checkpoint].into_iter().map(|text| Line::from(format!(" {text}"))).collect()
}

/// Images a second, now and epoch by epoch.
fn speed(frame: &mut Frame<'_>, area: Rect, watched: &Watched) {
    let [words, bars] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let rates: Vec<u64> =
        watched.files.epochs.iter().filter_map(|e| e.images_per_sec).map(|rate| rate as u64).collect();
    let now = watched.live.as_ref().map(|live| live.images_per_sec).filter(|rate| *rate > 0.0);
    let now = now.or(rates.last().map(|&rate| rate as f64)).unwrap_or(0.0);
    frame.render_widget(Paragraph::new(format!("{now:.0} images/s")), words);
    let newest = &rates[rates.len().saturating_sub(usize::from(bars.width))..];
    frame.render_widget(Sparkline::default().data(newest.iter().copied()).style(style(watched, 0)), bars);
}
