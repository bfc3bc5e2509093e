//! `glasses report`, the page at the end of every run, and what a real browser makes of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::{faces, refused, words};
use crate::run::{Outcome, finish, glasses, mpirun, skipped};

/// Two runs on faces, on one rank and on two.
fn runs() -> TempDir {
    let dir = faces();
    let train = "--data faces.h5 --model tiny.toml --epochs 3 --out";
    glasses(&words(&format!("{train} one")), dir.path()).success();
    mpirun(2, &words(&format!("{train} two --lr 0.01 --seed 7")), dir.path()).success();
    dir
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

/// What any page must be: whole, and enough by itself.
#[track_caller]
fn check_page(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"), "a whole page");
    for outside in ["src=\"http", "href=\"http", "url(", "@import", "<script", "src=\"/", "src=\"file"] {
        assert!(!page.contains(outside), "'{outside}' reaches outside");
    }
    for part in ["prefers-color-scheme: dark", "@media print", "<svg", "Configuration"] {
        assert!(page.contains(part), "{part}");
    }
    // A picture in base64 may hold any letters.
    let mut words = page.split("base64,").enumerate();
    let outside =
        |(i, part): (usize, &str)| if i == 0 { part.to_owned() } else { part.split_once('"').unwrap().1.to_owned() };
    assert!(!words.any(|part| outside(part).contains("NaN")), "a number that is none");
}

#[test]
fn every_run_ends_with_a_page_that_holds_its_figures() {
    let dir = runs();
    for (run, other) in [("one", "--lr 0.01"), ("two", "<code>7</code>")] {
        let page = read(dir.path().join(run).join("report.html"));
        check_page(&page);
        let summary: Value = serde_json::from_str(&read(dir.path().join(run).join("summary.json"))).unwrap();
        let accuracy = format!("{:.2} %", 100.0 * summary["test_accuracy"].as_f64().unwrap());
        let eval = format!("eval --model {run}/model.h5 --data faces.h5 --json");
        let eval: Value = serde_json::from_str(&glasses(&words(&eval), dir.path()).success().stdout).unwrap();
        let cell = |row: usize, column: usize| eval["confusion"][row][column].to_string();
        for id in ["loss", "accuracy", "confusion", "precision-recall", "roc", "phases", "speed", "lr"] {
            assert_eq!(page.matches(&format!("<figure id=\"{id}\">")).count(), 1, "{run}: {id}");
        }
        assert_eq!(page.contains("<figure id=\"bytes\">"), run == "two", "one rank hands nothing to MPI");
        for part in
            [accuracy.as_str(), summary["weights_sha256"].as_str().unwrap(), "no glasses", "data:image/png;base64,"]
        {
            assert!(page.contains(part), "{run}: {part}");
        }
        let confusion = page.split("<figure id=\"confusion\">").nth(1).unwrap().split("</figure>").next().unwrap();
        for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert!(confusion.contains(&format!(">\n{}\n<", cell(row, column))), "{run}: {}", cell(row, column));
        }
        assert_eq!(page.contains(other), run == "two", "{other}");
        // Made again, the same page, but for nothing.
        glasses(&words(&format!("report {run} --out again.html")), dir.path()).success();
        assert!(
            read(dir.path().join("again.html")) == page,
            "{run}: the page of the run's end and that of the command"
        );
    }
    let line = read(dir.path().join("two/metrics.jsonl"));
    let line: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    let slowest = &line["slowest"];
    assert!(slowest["rank"].as_u64().unwrap() < 2 && slowest["seconds"].as_f64() >= slowest["mean"].as_f64(), "{line}");
}

#[test]
fn several_runs_lie_over_one_another_and_each_plot_is_a_file() {
    let dir = runs();
    let end = glasses(&words("report one two --figures figures"), dir.path()).success();
    assert!(end.stdout.starts_with("wrote report.html\nwrote 10 plots to figures"), "{end:?}");
    let page = read(dir.path().join("report.html"));
    check_page(&page);
    let differing = page.split("Differing settings").nth(1).unwrap().split("</section>").next().unwrap();
    let keys: Vec<&str> = differing.split("<tr><th>").skip(2).map(|row| row.split('<').next().unwrap()).collect();
    assert_eq!(keys, ["lr", "seed"], "{differing}");
    for name in
        ["loss", "accuracy", "confusion-1", "confusion-2", "precision-recall", "roc", "phases", "bytes", "speed", "lr"]
    {
        let path = |end: &str| dir.path().join(format!("figures/{name}.{end}"));
        let svg = read(path("svg"));
        assert!(svg.starts_with("<svg width=\"560\"") && svg.trim_end().ends_with("</svg>"), "{name}");
        let png = image::open(path("png")).unwrap().to_rgb8();
        assert_eq!(png.dimensions(), (1120, 720), "{name}");
        let dark = png.pixels().filter(|p| p.0.iter().all(|&v| v < 120)).count();
        assert!(png.get_pixel(0, 0).0 == [255; 3] && dark > 500, "{name}: letters on white, {dark}");
    }
    let loss = read(dir.path().join("figures/loss.svg"));
    for name in ["one train", "one test", "two train", "two test", "epoch"] {
        assert!(loss.contains(&format!(">\n{name}\n<")), "{name}");
    }
}

#[test]
fn a_run_in_progress_a_lost_dataset_and_no_run_are_told_apart() {
    let dir = faces();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 2 --out run"), dir.path()).success();
    let run = dir.path().join("run");
    std::fs::rename(dir.path().join("faces.h5"), dir.path().join("moved.h5")).unwrap();
    let end = glasses(&words("report run"), dir.path()).success();
    assert!(end.stderr.contains("could not be judged again") && end.stderr.contains("--data"), "{end:?}");
    assert!(!read(run.join("report.html")).contains("<figure id=\"roc\">"));
    glasses(&words("report run --data moved.h5"), dir.path()).success();
    assert!(read(run.join("report.html")).contains("<figure id=\"roc\">"));
    refused(dir.path(), "report run --data gone.h5", &["gone.h5"]);
    std::fs::remove_file(run.join("model.h5")).unwrap();
    std::fs::remove_file(run.join("summary.json")).unwrap();
    // A line that is being written, and one of a later version.
    let lines = read(run.join("metrics.jsonl"));
    let later = lines.lines().next().unwrap().replace("\"step\"", "\"bytes_by_carrier_pigeon\":5000000,\"step\"");
    std::fs::write(run.join("metrics.jsonl"), format!("{later}\n{{\"epoch\":2,\"st")).unwrap();
    let end = glasses(&words("report run"), dir.path()).success();
    assert!(end.stderr.contains("the run is not finished"), "{end:?}");
    let page = read(run.join("report.html"));
    assert!(page.contains("bytes by carrier pigeon") && page.contains("1 epoch in figures"));
    refused(dir.path(), "report gone", &["gone", "found no such folder"]);
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    refused(dir.path(), "report empty", &["a folder without config.toml"]);
}

#[test]
fn networks_of_features_and_many_classes_have_a_page_too() {
    let dir = tempfile::tempdir().unwrap();
    glasses(&words("synth --kind spiral --count 300 --out spiral.h5"), dir.path()).success();
    glasses(&words("--data spiral.h5 --model spiral --epochs 2 --out run"), dir.path()).success();
    let page = read(dir.path().join("run/report.html"));
    check_page(&page);
    assert!(page.contains("<figure id=\"roc\">") && !page.contains("<img"), "features have curves and no pictures");
    // Names that would be markup, and too long ones.
    for (class, shade) in
        [("a<b>&amp;\"c", 20u8), ("glasses of a kind that nobody ever had a good name for until now", 200)]
    {
        let folder = dir.path().join("photos").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..10u8 {
            let picture = image::RgbImage::from_fn(24, 24, |x, _| image::Rgb([shade + i, x as u8, shade]));
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    std::fs::write(dir.path().join("tiny.toml"), crate::fixtures::TINY).unwrap();
    glasses(&words("ingest photos --out photos.h5 --size 24"), dir.path()).success();
    glasses(&words("--data photos.h5 --model tiny.toml --epochs 1 --out odd"), dir.path()).success();
    let page = read(dir.path().join("odd/report.html"));
    check_page(&page);
    assert!(page.contains("a&lt;b&gt;&amp;amp;") && !page.contains("a<b>"), "names are text");
    let classes = 30;
    let file = crate::fixtures::Raw::create(dir.path(), "many.h5");
    let pixels: Vec<u8> = (0..120 * 64u32).map(|i| (i / 64 % classes * 8) as u8).collect();
    let labels: Vec<i64> = (0..120).map(|row| i64::from(row % classes)).collect();
    let file = file.put("train/images", &[120, 8, 8, 1], &pixels).labels("train", &labels);
    drop(file.put("test/images", &[120, 8, 8, 1], &pixels).labels("test", &labels));
    glasses(&words("--data many.h5 --model tiny.toml --epochs 1 --out many"), dir.path()).success();
    let page = read(dir.path().join("many/report.html"));
    check_page(&page);
    assert!(page.contains("of 30 classes, the 7 with the least area"), "curves that can be told apart");
}

/// The browser, under any of its names.
fn browser() -> Option<&'static str> {
    let is_there = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|end| end.status.success());
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_there)
}

fn open(browser: &str, page: &Path, options: &[&str]) -> Outcome {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--hide-scrollbars",
    ]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.arg(format!("--user-data-dir={}", profile.path().display())).arg("--enable-logging=stderr").args(options);
    finish({
        command.arg(format!("file://{}", page.display()));
        command
    })
    .success()
}

/// Looks for letters outside of their plot, boxes with more in them than they show, and a page wider than the window; what it
/// finds becomes the page's title.
const LOOK: &str = r#"<script>
addEventListener('load', () => {
  const found = [];
  for (const svg of document.querySelectorAll('svg')) {
    const room = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll('text')) {
      const box = text.getBoundingClientRect();
      if (box.left < room.left - 1 || box.right > room.right + 1 || box.top < room.top - 1 || box.bottom > room.bottom + 1)
        found.push('outside its plot: ' + text.textContent.trim());
    }
  }
  for (const element of document.querySelectorAll('body *:not(svg *):not(.scroll *)')) {
    if (!element.classList.contains('scroll') && element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0
        && getComputedStyle(element).display !== 'inline')
      found.push('more than it shows: ' + element.tagName + ' ' + element.className + ' ' + element.textContent.slice(0, 30));
  }
  for (const image of document.images) if (!image.naturalWidth) found.push('no picture: ' + image.alt);
  if (document.documentElement.scrollWidth > innerWidth) found.push('wider than the window');
  document.title = 'texts ' + document.querySelectorAll('svg text').length + ' width ' + innerWidth + ' found ' + JSON.stringify(found);
});
</script></body>"#;

#[test]
fn a_real_browser_shows_the_page_whole_at_two_widths_in_the_dark_and_on_paper() {
    let Some(browser) = browser() else {
        return skipped(
            "a_real_browser_shows_the_page_whole_at_two_widths_in_the_dark_and_on_paper",
            "no chromium here",
        );
    };
    let dir = runs();
    let long = "a-run-whose-name-somebody-typed-without-thinking-of-those-who-read-it";
    std::fs::rename(dir.path().join("two"), dir.path().join(long)).unwrap();
    glasses(&words(&format!("report one {long}")), dir.path()).success();
    let second = &format!("{long}/report.html");
    for page in [second, "report.html"] {
        let path = dir.path().join(page);
        // The same page, with a look from inside; its own policy allows no script.
        let looked: PathBuf = dir.path().join("looked.html");
        let policy = "default-src 'none'";
        let text = read(&path);
        assert!(text.contains(policy));
        std::fs::write(&looked, text.replace(policy, "script-src 'unsafe-inline'").replace("</body>", LOOK)).unwrap();
        for width in [1280, 420] {
            let size = format!("--window-size={width},2000");
            let shot = dir.path().join("shot.png");
            let end = open(browser, &path, &[&size, &format!("--screenshot={}", shot.display())]);
            assert!(!end.stderr.contains("CONSOLE"), "{page} at {width}: {}", end.stderr);
            let picture = image::open(&shot).unwrap().to_rgb8();
            assert_eq!(picture.width(), width);
            let bright = picture.pixels().filter(|p| p.0.iter().all(|&v| v > 200)).count();
            assert!(bright > picture.pixels().len() / 2, "{page}: a bright page");
            let dom = open(browser, &looked, &[&size, "--dump-dom"]).stdout;
            let title = dom.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
            assert!(title.contains("texts ") && !title.contains("texts 0 "), "{title}");
            assert!(title.ends_with("found []"), "{page} at {width}: {title}");
        }
        if page == second {
            continue;
        }
        let (dark, pdf) = (dir.path().join("dark.png"), dir.path().join("page.pdf"));
        let dark_mode = "--blink-settings=preferredColorScheme=0";
        open(browser, &path, &[dark_mode, "--window-size=1280,2000", &format!("--screenshot={}", dark.display())]);
        let picture = image::open(&dark).unwrap().to_rgb8();
        let dark = picture.pixels().filter(|p| p.0.iter().all(|&v| v < 60)).count();
        assert!(dark > picture.pixels().len() / 2, "{page}: a dark page for a dark screen");
        open(browser, &path, &[dark_mode, "--no-pdf-header-footer", &format!("--print-to-pdf={}", pdf.display())]);
        assert!(std::fs::read(&pdf).unwrap().starts_with(b"%PDF"));
    }
}
