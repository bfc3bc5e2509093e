//! One page that needs nothing else: no network, no script, every picture inside. Its colours follow the reader's screen,
//! and paper.

mod examples;
mod tables;

use std::fmt::Write;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::figure::{DARK, Figure, INK, LIGHT, PALETTE};
use super::percent;
use super::plots::figures;
use super::subject::Subject;
use crate::error::Result;

const STYLE: &str = include_str!("style.css");

/// The page of one run, or of several laid over one another.
///
/// # Errors
/// Never in practice.
pub fn page(runs: &[Subject]) -> Result<String> {
    let names: Vec<String> = runs.iter().map(|run| run.files.name()).collect();
    let title = format!("glasses: {}", names.join(", "));
    let plots = figures(runs).iter().map(plot).collect::<Result<Vec<_>>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Nothing is fetched, whatever a class name or a setting says.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(colors())) }
            }
            body {
                header {
                    p.brand { "glasses report" }
                    h1 { (names.join(", ")) }
                    @if let [run] = runs { (headline(run)) }
                }
                main {
                    @for run in runs { @for note in &run.notes { p.note { b { (run.files.name()) ": " } (note) } } }
                    @if runs.len() > 1 { (tables::results(runs)) (tables::differences(runs)) }
                    section { h2 { "Curves" } div.plots { @for plot in plots { (plot) } } }
                    @for run in runs {
                        @if let Some(judged) = &run.judged { (tables::classes(run, judged)) }
                        (examples::section(run, runs.len() > 1))
                    }
                    @for run in runs { (tables::epochs(run, runs.len() > 1)) (tables::settings(run, runs.len() > 1)) }
                }
                footer {
                    p { "Made by glasses " (env!("CARGO_PKG_VERSION")) " with " code { "glasses report" } ". The page holds all it shows." }
                }
            }
        }
    };
    Ok(page.into_string())
}

/// What a run came to, in a few large figures.
fn headline(run: &Subject) -> Markup {
    let number = |key: &str| run.files.summary_of(key).and_then(serde_json::Value::as_f64);
    let mut tiles: Vec<(String, String)> = Vec::new();
    for split in ["test", "val", "train"] {
        if let Some(accuracy) = number(&format!("{split}_accuracy")) {
            tiles.push((percent(accuracy), format!("{split} accuracy")));
        }
    }
    let balanced = |split: &str| run.files.summary_of(&format!("{split}_balance"))?.get("balanced_accuracy")?.as_f64();
    if let Some((split, accuracy)) = ["test", "val"].iter().find_map(|split| Some((split, balanced(split)?))) {
        tiles.push((percent(accuracy), format!("{split} balanced accuracy")));
    }
    let mut add = |key: &str, what: &str, show: fn(f64) -> String| {
        tiles.extend(number(key).map(|value| (show(value), what.to_owned())));
    };
    add("test_loss", "test loss", |v| format!("{v:.4}"));
    add("images_per_sec", "images/s", |v| format!("{v:.0}"));
    add("ranks", "ranks", |v| format!("{v:.0}"));
    add("steps", "steps", |v| format!("{v:.0}"));
    add("parameters", "parameters", grouped);
    add("wall_seconds", "wall time", super::clock);
    html! {
        dl.tiles { @for (value, what) in tiles { div { dt { (what) } dd { (value) } } } }
        @if let Some(digest) = run.files.summary_of("weights_sha256").and_then(|value| value.as_str()) {
            p.digest { "weights sha256 " code { (digest) } }
        }
    }
}

/// A whole number with narrow gaps between its thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let gap = |place: usize| place > 0 && (digits.len() - place).is_multiple_of(3);
    digits
        .char_indices()
        .flat_map(|(place, digit)| gap(place).then_some('\u{202f}').into_iter().chain([digit]))
        .collect()
}

fn plot(figure: &Figure) -> Result<Markup> {
    let svg = figure.svg()?;
    Ok(html! {
        figure id=(figure.name) {
            h3 { (figure.title) }
            div.plot aria-label=(figure.title) { (PreEscaped(svg)) }
            figcaption { (figure.caption) }
        }
    })
}

/// The plots' colours on a dark screen: attribute by attribute, since plots come with colours of their own.
fn colors() -> String {
    let mut dark = String::new();
    let mut swap = |from: plotters::style::RGBColor, to: &str| {
        let from = format!("#{:02X}{:02X}{:02X}", from.0, from.1, from.2);
        for attribute in ["fill", "stroke"] {
            let _ = writeln!(dark, ".plot [{attribute}=\"{from}\"] {{ {attribute}: {to}; }}");
        }
    };
    swap(INK, "var(--ink)");
    swap(LIGHT, "var(--line)");
    PALETTE.iter().zip(DARK).for_each(|(&from, to)| swap(from, to));
    // Letters on full cells, whose colour is bright there.
    dark.push_str(".plot [fill=\"#FEFEFE\"] { fill: #0b0f12; }\n");
    format!("@media screen and (prefers-color-scheme: dark) {{\n{dark}}}\n")
}
