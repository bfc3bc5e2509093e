//! Tables whose columns are not where they are looked for, through `glasses ingest`: right, or refused with the option that fits.

use std::fmt::Write as _;
use std::path::Path;

use image::{Rgb, RgbImage};
use tempfile::{TempDir, tempdir};

use crate::fixtures::{refused, refused_by_ranks, words};
use crate::run::{Outcome, glasses};

const KINDS: [&str; 2] = ["cat", "dog"];

/// 40 pictures `p/images/N.png`, and `t.csv`.
fn pictures(header: &str, line: impl Fn(usize) -> String) -> TempDir {
    let dir = tempdir().unwrap();
    let folder = dir.path().join("p/images");
    std::fs::create_dir_all(&folder).unwrap();
    for row in 0..40 {
        RgbImage::from_pixel(4, 4, Rgb([row; 3])).save(folder.join(format!("{row}.png"))).unwrap();
    }
    table(dir.path(), header, line);
    dir
}

/// `t.csv` of 40 rows below a header, or without one.
fn table(dir: &Path, header: &str, line: impl Fn(usize) -> String) {
    let mut text = if header.is_empty() { String::new() } else { format!("{header}\n") };
    (0..40).for_each(|row| writeln!(text, "{}", line(row)).unwrap());
    std::fs::write(dir.join("t.csv"), text).unwrap();
}

fn features(header: &str, line: impl Fn(usize) -> String) -> TempDir {
    let dir = tempdir().unwrap();
    table(dir.path(), header, line);
    dir
}

fn ingest(dir: &Path, args: &str) -> Outcome {
    glasses(&words(&format!("ingest {args} --force --out d.h5")), dir).success()
}

const PICTURES: &str = "ingest p --labels t.csv --size 4 --out e.h5";

#[test]
fn a_label_that_is_another_column_is_answered_with_its_name() {
    let number = |row: usize| format!("{row}.5,{}", row * 3 % 11);
    for (header, column) in [("species,a,b", "species"), ("", "1"), ("the kind,a,b", "'the kind'")] {
        let dir = features(header, |row| format!("{},{}", KINDS[row % 2], number(row)));
        let fix = format!("--label-column {column}");
        refused(dir.path(), "ingest t.csv --out e.h5", &["40 of 40 rows cannot be used", &fix]);
        refused_by_ranks(2, dir.path(), "ingest t.csv --out e.h5", &[&fix]);
        refused(dir.path(), "ingest t.csv --skip-bad --out e.h5", &[&fix]);
        let args = ["ingest", "t.csv", "--out", "d.h5", "--label-column", column.trim_matches('\'')];
        assert!(glasses(&args, dir.path()).success().stdout.contains("cat (20), dog (20)"));
    }
    // One of numbers, where the last is a measure.
    let dir = features("species,a,b", |row| format!("{},{row}.5,{row}.25", row % 2));
    refused(
        dir.path(),
        "ingest t.csv --out e.h5",
        &["40 different values", "'species' (column 1)", "--label-column species"],
    );
    // Words beside the label are no label; nor are they a feature.
    let dir = features("name,a,label", |row| format!("n{row},{row}.5,{}", row % 2));
    refused(
        dir.path(),
        "ingest t.csv --out e.h5",
        &["no numbers: 'name' (column 1)", "--id-column name leaves it out"],
    );
    ingest(dir.path(), "t.csv --id-column name");
    // A column of labels without any.
    let dir = features("kind,a,note", |row| format!("{},{row}.5,", row % 2));
    let parts = ["no rows with a label: 'note' (column 3) is empty in all 40 rows", "--label-column kind"];
    refused(dir.path(), "ingest t.csv --out e.h5", &parts);
    let dir = pictures("file,kind,note", |row| format!("{row}.png,{},", KINDS[row % 2]));
    refused(dir.path(), PICTURES, &[parts[0], "--label-column kind"]);
    // Some are enough.
    let dir = features("a,label", |row| format!("{row}.5,{}", if row < 30 { "" } else { KINDS[row % 2] }));
    assert!(ingest(dir.path(), "t.csv").stdout.contains("30 without a label"));
}

#[test]
fn files_names_in_the_last_column_are_ids() {
    for header in ["species,file", ""] {
        let dir = pictures(header, |row| format!("{},{row}.png", KINDS[row % 2]));
        let end = ingest(dir.path(), "p --labels t.csv --size 4");
        assert!(
            end.stderr.contains("(column 1)") || end.stderr.contains("the labels are column 1, the ids column 2"),
            "{end:?}"
        );
        assert!(end.stdout.contains("2 classes: cat (20), dog (20)"), "{end:?}");
    }
}

#[test]
fn columns_of_a_pictures_table_that_are_not_used_are_noted() {
    let dir = pictures("file,usage,width,label", |row| {
        format!("{row}.png,{},{},{}", ["train", "test"][row % 2], 100 + row, KINDS[row % 2])
    });
    let end = ingest(dir.path(), "p --labels t.csv --size 4");
    assert!(end.stderr.contains("not used: 'usage' (column 2), 'width' (column 3)"), "{end:?}");
    assert!(end.stderr.contains("'usage' (column 2) is not used: rows are held back by chance"), "{end:?}");
    assert!(end.stderr.contains("glasses eval --data OTHER.h5 --split train"), "{end:?}");
    let dir = features("split,a,label", |row| format!("{},{row}.5,{}", row % 3, row % 2));
    let end = ingest(dir.path(), "t.csv");
    assert!(end.stderr.contains("'split' (column 1); it is a feature: rows are held back by chance"), "{end:?}");
    let dir = features("split,a,label", |row| format!("{},{row}.5,{}", ["train", "test"][row % 2], row % 3));
    refused(
        dir.path(),
        "ingest t.csv --out e.h5",
        &["'split' (column 1): rows are held back by chance", "--id-column split"],
    );
    // A column a class.
    let bits = |row: usize| format!("{row}.png,{},{},{}", row % 3 / 2, row % 3 % 2, u8::from(row.is_multiple_of(3)));
    let dir = pictures("file,cat,dog,owl", bits);
    let parts =
        ["a 1 in one column of 'cat' (column 2), 'dog' (column 3), 'owl' (column 4)", "idxmax", "--label-column owl"];
    refused(dir.path(), PICTURES, &parts);
    ingest(dir.path(), "p --labels t.csv --size 4 --label-column owl");
}

#[test]
fn some_ids_in_another_style_are_answered_with_the_pattern() {
    for (id, other, pattern) in [
        ("{}.png", "images\\{}.png", "images/{name}"),
        ("images/{}.png", "images/{}.jpg", "images/{stem}.png"),
        ("images/{}.png", "images/{}.PNG", "images/{stem}.png"),
        ("{}", "old/{}", "images/{stem}.png"),
    ] {
        for few in [true, false] {
            let dir = pictures("file,label", |row| {
                let id = if (row % 8 == 0) == few { other } else { id };
                format!("{},{}", id.replace("{}", &row.to_string()), KINDS[row / 8 % 2])
            });
            let missing = other.replace("{}", if few { "0" } else { "1" });
            let count = format!("{} of 40 pictures", if few { 5 } else { 35 });
            let fits = format!("--pattern '{pattern}' finds 40 of the first 40");
            refused(
                dir.path(),
                PICTURES,
                &[&count, &format!("no picture {missing}"), &format!("'{missing}' may be"), &fits],
            );
            ingest(dir.path(), &format!("p --labels t.csv --size 4 --pattern {pattern}"));
            let end = ingest(dir.path(), "p --labels t.csv --size 4 --skip-bad");
            assert!(end.stderr.contains(&fits), "{end:?}");
        }
    }
    // The pattern for the many names those that it does not find.
    let dir = pictures("file,label", |row| format!("{}{row}.jpg,{}", if row == 7 { "x" } else { "" }, KINDS[row % 2]));
    std::fs::copy(dir.path().join("p/images/0.png"), dir.path().join("p/images/0.jpg")).unwrap();
    refused(dir.path(), PICTURES, &["finds 39 of the first 40, not 'x7.jpg'", "line 9: no picture x7.jpg"]);
}

#[test]
fn an_id_that_comes_twice_is_named_with_its_labels() {
    let dir = pictures("file,label", |row| format!("{}.png,{}", row % 20, KINDS[row / 20]));
    let parts = [
        "line 22: id '0.png' stands on line 2 already, with the label 'cat' and not 'dog'",
        "taken from 'file' (column 1)",
    ];
    refused(dir.path(), PICTURES, &parts);
    let dir = pictures("file,label", |row| format!("{}.png,cat", row % 20));
    refused(dir.path(), PICTURES, &["line 22: id '0.png' stands on line 2 already\n"]);
}

#[test]
fn other_separators_are_named_with_the_command_that_mends_them() {
    for (mark, name) in [("\t", "tabs"), (";", "semicolons"), ("|", "|")] {
        let line = |row: usize| format!("{row},5{mark}{}{mark}{}", row % 3, KINDS[row % 2]);
        let dir = features(&["a", "b", "label"].join(mark), line);
        let message = glasses(&words("ingest t.csv --out e.h5"), dir.path()).failure();
        assert!(message.contains(&format!("separated by {name}")), "{message}");
        let command = message.lines().find_map(|line| line.trim().strip_prefix("fix: ")).unwrap();
        crate::at_hand::typed(command, dir.path(), &[]).success();
        assert!(ingest(dir.path(), "t.commas.csv").stdout.contains("2 features; rows: train 32, test 8; 2 classes"));
    }
    // Without a header the commas of numbers part columns.
    let dir = features("", |row| format!("{row},5;{row},25;{}", KINDS[row % 2]));
    refused(dir.path(), "ingest t.csv --out e.h5", &["separated by semicolons", "sed 's/,/./g; s/;/,/g' t.csv"]);
    let dir = features("a,label", |row| format!("\"{row},5\",{}", row % 2));
    refused(dir.path(), "ingest t.csv --out e.h5", &["write decimal points: 0.5, not 0,5"]);
    let dir = features("a,b,label", |row| format!("{row},5,1,5,{}", row % 2));
    refused(dir.path(), "ingest t.csv --out e.h5", &["rows have 5 columns, the first line 3", "decimal commas"]);
    std::fs::rename(dir.path().join("t.csv"), dir.path().join("t.tsv")).unwrap();
    refused(dir.path(), "ingest t.tsv --out e.h5", &["does not end in .csv", "t.tsv > t.csv"]);
    std::fs::rename(dir.path().join("t.tsv"), dir.path().join("t.xlsx")).unwrap();
    refused(dir.path(), "ingest t.xlsx --out e.h5", &["save the table as CSV"]);
}

#[test]
fn quotes_marks_and_line_ends_make_no_difference() {
    let of = |text: String| {
        let dir = pictures("", |_| String::new());
        std::fs::write(dir.path().join("t.csv"), text).unwrap();
        let end = ingest(dir.path(), "p --labels t.csv --size 4");
        assert!(end.stdout.contains("rows: train 32, test 8; 2 classes: cat (20), dog (20)"), "{end:?}");
    };
    let rows = |line: &dyn Fn(usize) -> String| (0..40).map(line).collect::<String>();
    of(format!("\u{feff}file,label\r\n{}", rows(&|row| format!("{row}.png,{}\r\n", KINDS[row % 2]))));
    of(format!("\u{feff}{}", rows(&|row| format!("{row}.png,{}\n", KINDS[row % 2]))));
    of(format!("\"file\", \"label\"\n{}", rows(&|row| format!("\"{row}.png\", \"{}\"\n", KINDS[row % 2]))));
}
