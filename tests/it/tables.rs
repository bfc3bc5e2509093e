//! CSV files as people have them, through `glasses ingest`: which column is what, and that this is said.

use std::fmt::Write as _;
use std::path::Path;

use image::{Rgb, RgbImage};
use tempfile::{TempDir, tempdir};

use crate::fixtures::{refused, words};
use crate::run::{Outcome, glasses};

fn table(text: &str) -> TempDir {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("t.csv"), text).unwrap();
    dir
}

/// `glasses ingest …` to `d.h5`, which must go well.
fn ingest(dir: &Path, args: &str) -> Outcome {
    glasses(&words(&format!("ingest {args} --force --out d.h5")), dir).success()
}

/// Features a row of `d.h5`, and the names of its classes.
fn outcome(dir: &Path) -> (usize, String) {
    let text = glasses(&["info", "d.h5", "--json"], dir).success().stdout;
    let info: serde_json::Value = serde_json::from_str(&text).unwrap();
    let classes: Vec<&str> = info["classes"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    (info["shape"][0].as_u64().unwrap() as usize, classes.join(" "))
}

/// Rows of `columns(row)`, below a header.
fn rows(header: &str, count: usize, columns: impl Fn(usize) -> String) -> String {
    let mut text = format!("{header}\n");
    (0..count).for_each(|row| writeln!(text, "{}", columns(row)).unwrap());
    text
}

#[test]
fn a_column_that_numbers_the_rows_is_no_feature() {
    for header in [",x,y,kind", "Unnamed: 0,x,y,kind", "index,x,y,kind"] {
        let dir = table(&rows(header, 30, |row| format!("{row},{},{},{}", row % 7, row % 5, ["a", "b"][row % 2])));
        let said = ingest(dir.path(), "t.csv").stderr;
        assert_eq!(outcome(dir.path()), (2, "a b".to_owned()), "{header}");
        assert!(
            said.contains("the labels are 'kind' (column 4), the 2 features 'x' (column 2), 'y' (column 3)"),
            "{said}"
        );
        assert!(said.contains("(column 1), which numbers the rows"), "{said}");
    }
    // After a shuffle the numbers are in another order; pandas adds one more at each turn.
    let shuffled = |row: usize| format!("{},{},{},{}", row * 7 % 30, 29 - row, row % 5, row % 2);
    let dir = table(&rows("Unnamed: 0,Unnamed: 0.1,x,y", 30, shuffled));
    ingest(dir.path(), "t.csv");
    assert_eq!(outcome(dir.path()).0, 1);
    // The same column with values that return is a feature.
    let dir = table(&rows("index,x,kind", 30, |row| format!("{},{},{}", row % 9, row % 5, row % 2)));
    ingest(dir.path(), "t.csv");
    assert_eq!(outcome(dir.path()).0, 2);
    // One of another name that counts is, and that is said; the user decides.
    let dir = table(&rows("t,x,kind", 30, |row| format!("{row},{},{}", row % 5, row % 2)));
    let said = ingest(dir.path(), "t.csv").stderr;
    assert!(said.contains("'t' (column 1) counts the rows") && said.contains("--id-column 1"), "{said}");
    assert_eq!(outcome(dir.path()).0, 2);
    for id in ["t", "1"] {
        ingest(dir.path(), &format!("t.csv --id-column {id}"));
        assert_eq!(outcome(dir.path()).0, 1);
    }
}

#[test]
fn the_label_is_where_the_user_says_or_its_name_does() {
    // Kaggle's digits have it first.
    let dir = table(&rows("label,pixel0,pixel1", 30, |row| format!("{},{},0", row % 3, row % 7)));
    let said = ingest(dir.path(), "t.csv").stderr;
    assert!(said.contains("the labels are 'label' (column 1)"), "{said}");
    assert_eq!(outcome(dir.path()), (2, "0 1 2".to_owned()));
    ingest(dir.path(), "t.csv --label-column pixel0");
    assert_eq!(outcome(dir.path()).1, "0 1 2 3 4 5 6");
    let twice = table(&rows("x,label,target", 30, |row| format!("{},{},{}", row % 7, row % 3, row % 3)));
    let parts = ["columns 2 ('label') and 3 ('target')", "--label-column"];
    refused(twice.path(), "ingest t.csv --out e.h5", &parts);
    refused(dir.path(), "ingest t.csv --label-column 4 --out e.h5", &["--label-column", "'4'", "1 to 3"]);
    refused(dir.path(), "ingest t.csv --id-column 1 --label-column 1 --out e.h5", &["--id-column", "two columns"]);
}

#[test]
fn a_label_that_is_nearly_every_row_s_own_is_refused() {
    let prices = rows("rooms,size,price", 40, |row| format!("{},{},{}.5", row % 5, row % 9, 1000 + row));
    refused(
        table(&prices).path(),
        "ingest t.csv --out d.h5",
        &["'price' (column 3) of t.csv", "40 different values in 40 rows"],
    );
    let few = rows("x,y", 10, |row| format!("{},{row}.25", row % 3));
    refused(table(&few).path(), "ingest t.csv --out d.h5", &["10 different values in 10 rows", "--label-column"]);
}

#[test]
fn doubtful_names_of_classes_are_noted() {
    for (labels, part) in [
        (["NA", "b"], "taken for names of classes: NA; leave these cells empty"),
        (["Cat", "cat"], "two classes differ by their case alone: 'Cat' and 'cat'"),
        (["7", "007"], "one number, written differently, makes classes of its own: 007, 7"),
    ] {
        let dir = table(&rows("x,kind", 30, |row| format!("{},{}", row % 4, labels[row % 2])));
        let said = ingest(dir.path(), "t.csv").stderr;
        assert!(said.contains(part), "{said}");
    }
    let text = rows("x,kind", 30, |row| format!("{},a{}", row % 4, if row == 3 { "\0" } else { "" }));
    refused(table(&text).path(), "ingest t.csv --out d.h5", &["t.csv, line 5", "NUL byte"]);
}

#[test]
fn a_lost_quote_is_refused_with_its_line() {
    let text = rows("x,kind", 30, |row| if row == 3 { "1,\"a".to_owned() } else { format!("{},a", row % 4) });
    refused(table(&text).path(), "ingest t.csv --out d.h5", &["t.csv, line 5", "line break", "quotation mark"]);
}

/// A folder with `count` pictures called `name(row)` in `p`.
fn pictures(count: usize, name: impl Fn(usize) -> String) -> TempDir {
    let dir = tempdir().unwrap();
    for row in 0..count {
        let path = dir.path().join("p").join(name(row));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(4, 4, Rgb([row as u8; 3])).save(path).unwrap();
    }
    dir
}

#[test]
fn a_column_that_numbers_the_rows_names_no_picture() {
    let dir = pictures(12, |row| format!("{row}.png"));
    // The numbers name pictures too, wrong ones.
    let text = rows(",file,label", 12, |row| {
        format!("{row},{}.png,{}", 11 - row, ["dark", "light"][usize::from(11 - row > 5)])
    });
    std::fs::write(dir.path().join("l.csv"), text).unwrap();
    let said = ingest(dir.path(), "p --labels l.csv --size 4 --test 0").stderr;
    assert!(said.contains("the labels are 'label' (column 3), the ids 'file' (column 2); left out:"), "{said}");
    let file = hdf5::File::open(dir.path().join("d.h5")).unwrap();
    let pixels = file.dataset("train/images").unwrap().read_raw::<u8>().unwrap();
    let labels = file.dataset("train/labels").unwrap().read_raw::<i64>().unwrap();
    assert!(pixels.chunks(48).zip(&labels).all(|(row, &label)| (row[0] > 5) == (label == 1)), "{labels:?}");
    drop(file);
    // Where nothing else could name them, the numbers do; and the user may say so.
    let text = rows("index,label", 12, |row| format!("{row},{}", row % 2));
    std::fs::write(dir.path().join("l.csv"), text).unwrap();
    let said = ingest(dir.path(), "p --labels l.csv --size 4").stderr;
    assert!(said.contains("the ids 'index' (column 1)"), "{said}");
    // Under any name, where another column has the files' names.
    let text = rows("no,file,label", 12, |row| format!("{row},{}.png,{}", 11 - row, row % 2));
    std::fs::write(dir.path().join("l.csv"), text).unwrap();
    let said = ingest(dir.path(), "p --labels l.csv --size 4").stderr;
    assert!(said.contains("the ids 'file' (column 2)"), "{said}");
    let text = rows("index,file,label", 12, |row| format!("{row},x{row},{}", row % 2));
    std::fs::write(dir.path().join("l.csv"), text).unwrap();
    let said = ingest(dir.path(), "p --labels l.csv --size 4 --id-column index").stderr;
    assert!(said.contains("the ids 'index' (column 1)"), "{said}");
}

#[test]
fn ids_in_another_style_are_answered_with_the_pattern_that_fits() {
    let dir = pictures(12, |row| format!("images/{row}.png"));
    for (id, difference, pattern) in [
        ("images\\{}.png", "has backslashes", "images/{name}"),
        ("{}.jpg", "has another ending", "images/{stem}.png"),
        ("/home/me/pics/{}.png", "names another folder", "images/{name}"),
        ("p/images/{}.png", "names another folder", "images/{name}"),
    ] {
        let text = rows("file,label", 12, |row| format!("{},{}", id.replace("{}", &row.to_string()), row % 2));
        std::fs::write(dir.path().join("l.csv"), text).unwrap();
        let parts =
            ["no picture for any of the 12", difference, &format!("--pattern '{pattern}' finds 12 of the first 12")];
        refused(dir.path(), "ingest p --labels l.csv --out e.h5", &parts);
        let args =
            ["ingest", "p", "--labels", "l.csv", "--pattern", pattern, "--size", "4", "--force", "--out", "d.h5"];
        glasses(&args, dir.path()).success();
    }
    let text = rows("file,label", 12, |row| format!("Img{row}.PNG,{}", row % 2));
    let dir = pictures(12, |row| format!("img{row}.png"));
    std::fs::write(dir.path().join("l.csv"), text).unwrap();
    refused(dir.path(), "ingest p --labels l.csv --out e.h5", &["'Img0.PNG' may be p/img0.png", "has another case"]);
}

#[test]
fn ids_that_are_shorter_than_the_names_are_answered_with_what_is_there() {
    let labels = |dir: &Path| {
        let text = rows("id,label", 12, |row| format!("{row},{}", row % 2));
        std::fs::write(dir.join("l.csv"), text).unwrap();
    };
    let dir = pictures(12, |row| format!("img_{row}.png"));
    labels(dir.path());
    let parts = ["'0' may be p/img_0.png", "--pattern 'img_{id}.png' finds 12 of the first 12"];
    refused(dir.path(), "ingest p --labels l.csv --out e.h5", &parts);
    ingest(dir.path(), "p --labels l.csv --pattern img_{id}.png --size 4");
    let dir = pictures(12, |row| format!("{row:05}.png"));
    labels(dir.path());
    refused(dir.path(), "ingest p --labels l.csv --out e.h5", &["'0' may be p/00000.png: it lacks zeros in front"]);
}

#[test]
fn a_stray_csv_beside_class_folders_is_named_with_the_flag_that_decides() {
    let dir = pictures(12, |row| format!("{}/{row}.png", ["cats", "dogs"][row % 2]));
    std::fs::write(dir.path().join("p/labels.csv"), "id,label\na,1\nb,2\n").unwrap();
    refused(dir.path(), "ingest p --out e.h5", &["labels.csv", "no picture for any", "--folders classes"]);
    ingest(dir.path(), "p --folders classes --size 4");
    assert_eq!(outcome(dir.path()).1, "cats dogs");
}

#[test]
fn a_quotation_mark_without_its_partner_makes_no_class() {
    let of = |label: &str| {
        let row = |row: usize| format!("{},2,{}", row % 4, if row == 7 { label } else { ["c0", "c1"][row % 2] });
        table(&rows("x,y,kind", 12, row))
    };
    for label in ["c0\"", "\"c0\" junk", "\"c0\"c0", " \"c0", " c0\" ", "\"c0\" \"c1\""] {
        refused(of(label).path(), "ingest t.csv --out e.h5", &["t.csv, line 9", "quotation mark", label.trim()]);
    }
    for (label, class) in [("\"c0\"", ""), (" \"c0\" ", ""), ("5\" pipe", " 5\" pipe"), ("\"5\"\"\"", " 5\"")] {
        let dir = of(label);
        ingest(dir.path(), "t.csv");
        let all: Vec<String> = outcome(dir.path()).1.split(' ').map(str::to_owned).collect();
        let mut expected: Vec<String> = format!("c0 c1{class}").split(' ').map(str::to_owned).collect();
        expected.sort_by_key(|name| all.iter().position(|other| other == name));
        assert_eq!(all, expected);
    }
    // A number that is none; a text that nobody reads may be anything, over two lines too.
    let text = rows("x,kind", 12, |row| format!("{},{}", if row == 2 { "\"1\"2" } else { "3" }, row % 2));
    refused(table(&text).path(), "ingest t.csv --out e.h5", &["t.csv, line 4", "\"1\"2"]);
    let dir = pictures(12, |row| format!("{row}.png"));
    let line = |row: usize| format!("{row}.png,\"a, \"\"b\"\"\n\",x\" y,a\",{}", ["cat", "dog"][row % 2]);
    std::fs::write(dir.path().join("l.csv"), rows("file,n,o,p,label", 12, line)).unwrap();
    ingest(dir.path(), "p --labels l.csv --size 4");
    assert_eq!(outcome(dir.path()).1, "cat dog");
    let line = |row: usize| format!("{row}.png{},\"a\n\",{}", if row == 3 { "\"" } else { "" }, row % 2);
    std::fs::write(dir.path().join("l.csv"), rows("file,n,label", 12, line)).unwrap();
    refused(dir.path(), "ingest p --labels l.csv --out e.h5", &["l.csv, line 8", "3.png\""]);
}

#[test]
fn no_class_goes_with_the_bad_rows() {
    let lost = |kind: &str, cell: &str, more: &str| {
        let row = |row: usize| match row % 3 {
            2 => format!("{cell},1,{kind}{more}"),
            other => format!("{row},1,{}", ["a", "b"][other]),
        };
        table(&rows("x,y,kind", 12, row))
    };
    for (cell, more) in [("nan", ""), ("1,2", ""), ("", "")] {
        let dir = lost("owl", cell, more);
        refused(dir.path(), "ingest t.csv --skip-bad --out e.h5", &["no usable row of class 'owl'", "mend its rows"]);
    }
    ingest(lost("a", "nan", "").path(), "t.csv --skip-bad");
    ingest(lost("", "nan", "").path(), "t.csv --skip-bad");
    // A header that comes again, and a remark, are no classes.
    let dir = lost("a", "nan", "");
    let text = std::fs::read_to_string(dir.path().join("t.csv")).unwrap() + "x,y,kind\nTotal: 12\n";
    std::fs::write(dir.path().join("t.csv"), text).unwrap();
    ingest(dir.path(), "t.csv --skip-bad");
    // Pictures that are not there.
    let dir = pictures(12, |row| format!("{row}.png"));
    let line = |row: usize| format!("{row}.png,{}", if row < 12 { ["a", "b"][row % 2] } else { "owl" });
    std::fs::write(dir.path().join("l.csv"), rows("file,label", 14, line)).unwrap();
    refused(dir.path(), "ingest p --labels l.csv --skip-bad --out e.h5", &["no usable row of class 'owl'"]);
}
