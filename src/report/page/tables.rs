//! The figures behind the plots, as tables.

use std::collections::BTreeSet;

use maud::{Markup, html};
use serde_json::Value;

use crate::metrics::MOST_IN_TABLE;
use crate::plural::plural;
use crate::report::curves::precision;
use crate::report::folder::{Epoch, PHASES};
use crate::report::percent;
use crate::report::plots::THRESHOLDS;
use crate::report::subject::{Judged, MOST_WITH_CURVES, Subject};

fn share(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), percent)
}

fn of(run: &Subject, named: bool) -> String {
    if named { format!(", {}", run.files.name()) } else { String::new() }
}

/// Each class's precision, recall and areas; and what each threshold comes to where there are two classes.
pub fn classes(run: &Subject, judged: &Judged) -> Markup {
    let confusion = judged.confusion();
    let balance = confusion.balance();
    let with_areas = judged.classes.len() <= MOST_WITH_CURVES;
    let rows = confusion.of_classes(judged.classes.len()).into_iter().enumerate().map(|(class, of)| {
        let curve = Some(class).filter(|_| with_areas).and_then(|class| judged.curve(class));
        let area = |value: Option<f64>| value.map_or("–".to_owned(), |area| format!("{area:.4}"));
        let areas = [curve.as_ref().map(|c| c.precision_area()), curve.as_ref().map(|c| c.roc_area())].map(area);
        (judged.classes[class].clone(), of.rows, share(of.precision()), share(of.recall()), areas)
    });
    html! {
        section {
            h2 { "Classes, " (run.files.name()) }
            p { (judged.rows()) " rows of " (judged.split) ", accuracy " (percent(judged.accuracy()))
                ", balanced accuracy " (percent(balance.balanced_accuracy)) ", macro F1 " (format!("{:.4}", balance.macro_f1))
                "; always the commonest class: accuracy " (percent(balance.majority_class_accuracy)) "."
                @if judged.classes.len() > MOST_IN_TABLE { " No figure of confusion: there are more than " (MOST_IN_TABLE) " classes." }
                @if !with_areas { " No curves and areas: there are more than " (MOST_WITH_CURVES) " classes." }
            }
            div.pair {
                div.scroll { table {
                    thead { tr { th { "class" } th { "rows" } th { "precision" } th { "recall" } @if with_areas { th { "PR area" } th { "ROC area" } } } }
                    tbody { @for (name, rows, precision, recall, areas) in rows {
                        tr { td { (name) } td { (rows) } td { (precision) } td { (recall) } @if with_areas { @for area in areas { td { (area) } } } }
                    } }
                } }
                @if judged.classes.len() == 2 { (thresholds(judged)) }
            }
        }
    }
}

fn thresholds(judged: &Judged) -> Markup {
    let Some(curve) = judged.curve(1) else {
        return html! {};
    };
    let rows = THRESHOLDS.map(|threshold| {
        let step = curve.at(threshold);
        let (precise, recall) = (precision(&step), curve.recall(&step));
        let f1 = precise.filter(|p| p + recall > 0.0).map(|p| 2.0 * p * recall / (p + recall));
        (threshold, share(precise), percent(recall), percent(curve.false_positive_rate(&step)), share(f1))
    });
    html! {
        div.scroll {
            table {
                thead { tr { th { "'" (judged.classes[1]) "' from" } th { "precision" } th { "recall" } th { "false positive rate" } th { "F1" } } }
                tbody { @for (threshold, precision, recall, false_positive_rate, f1) in rows {
                    tr { td { (threshold) } td { (precision) } td { (recall) } td { (false_positive_rate) } td { (f1) } }
                } }
            }
            p { "A threshold chosen here is chosen on these rows: judge it on others." }
        }
    }
}

/// Every epoch's figures, folded away.
pub fn epochs(run: &Subject, named: bool) -> Markup {
    let epochs = &run.files.epochs;
    let number = |value: Option<f64>, digits: usize| value.map_or("–".to_owned(), |v| format!("{v:.digits$}"));
    let has = |get: fn(&Epoch) -> Option<f64>| epochs.iter().any(|epoch| get(epoch).is_some());
    let (val, test) = (has(|epoch| epoch.val_loss), has(|epoch| epoch.test_loss));
    html! {
        section {
            h2 { "Epochs" (of(run, named)) }
            @if epochs.is_empty() { p { "No epoch is over yet." } } @else {
                details {
                    summary { (plural(epochs.len(), "epoch")) " in figures" }
                    div.scroll { table {
                        thead { tr {
                            th { "epoch" } th { "steps" } th { "train loss" } th { "accuracy" }
                            @if val { th { "val loss" } th { "accuracy" } } @if test { th { "test loss" } th { "accuracy" } }
                            th { "images/s" } @for phase in PHASES { th { (phase) " s" } } th { "MB sent" }
                        } }
                        tbody { @for epoch in epochs { tr {
                            td { (epoch.epoch) } td { (epoch.step) } td { (number(epoch.train_loss, 4)) } td { (share(epoch.train_accuracy)) }
                            @if val { td { (number(epoch.val_loss, 4)) } td { (share(epoch.val_accuracy)) } }
                            @if test { td { (number(epoch.test_loss, 4)) } td { (share(epoch.test_accuracy)) } }
                            td { (number(epoch.images_per_sec, 0)) }
                            @for phase in PHASES { td { (number(epoch.seconds.get(phase).copied(), 2)) } }
                            td { (number(epoch.rest.get("bytes_communicated").and_then(Value::as_f64).map(|b| b / 1e6), 1)) }
                        } } }
                    } }
                }
            }
        }
    }
}

/// What a run was told, all of it.
pub fn settings(run: &Subject, named: bool) -> Markup {
    let settings = run.files.settings();
    html! {
        section {
            h2 { "Configuration" (of(run, named)) }
            table.settings { tbody { @for (key, value) in settings { tr { th { (key) } td { code { (value) } } } } } }
        }
    }
}

/// What several runs came to, side by side.
pub fn results(runs: &[Subject]) -> Markup {
    let last = |run: &Subject, get: fn(&Epoch) -> Option<f64>| run.files.epochs.last().and_then(get);
    let loss = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.4}"));
    let area = |run: &Subject| {
        let judged = run.judged.as_ref().filter(|judged| !judged.curve_classes().is_empty())?;
        let areas: Vec<f64> = judged.curve_classes().filter_map(|c| Some(judged.curve(c)?.roc_area())).collect();
        Some(areas.iter().sum::<f64>() / areas.len().max(1) as f64)
    };
    let summary = |run: &Subject, key: &str| run.files.summary_of(key).and_then(Value::as_f64);
    html! {
        section {
            h2 { "Results" }
            div.scroll { table {
                thead { tr {
                    th { "run" } th { "epochs" } th { "train accuracy" } th { "val accuracy" } th { "test accuracy" } th { "test loss" } th { "ROC area" }
                    th { "images/s" } th { "ranks" } th { "wall time" }
                } }
                tbody { @for run in runs { tr {
                    td { (run.files.name()) } td { (run.files.epochs.len()) }
                    td { (share(last(run, |e| e.train_accuracy))) } td { (share(last(run, |e| e.val_accuracy))) } td { (share(last(run, |e| e.test_accuracy))) }
                    td { (loss(last(run, |e| e.test_loss))) } td { (loss(area(run))) }
                    td { (last(run, |e| e.images_per_sec).map_or("–".to_owned(), |v| format!("{v:.0}"))) }
                    td { (summary(run, "ranks").map_or("–".to_owned(), |v| v.to_string())) }
                    td { (summary(run, "wall_seconds").map_or("–".to_owned(), crate::report::clock)) }
                } } }
            } }
        }
    }
}

/// The settings in which runs differ.
pub fn differences(runs: &[Subject]) -> Markup {
    let all: Vec<_> = runs.iter().map(|run| run.files.settings()).collect();
    let keys: BTreeSet<&String> = all.iter().flat_map(|settings| settings.keys()).collect();
    let differ = |key: &&&String| all.iter().any(|settings| settings.get(**key) != all[0].get(**key));
    let differing: Vec<&&String> = keys.iter().filter(differ).collect();
    html! {
        section {
            h2 { "Differing settings" }
            @if differing.is_empty() { p { "None: all settings are the same." } } @else {
                div.scroll { table.settings {
                    thead { tr { th { "setting" } @for run in runs { th { (run.files.name()) } } } }
                    tbody { @for key in differing { tr {
                        th { (key) } @for settings in &all { td { code { (settings.get(*key).map_or("–", String::as_str)) } } }
                    } } }
                } }
            }
        }
    }
}
