//! Names of classes: which an HDF5 file may have, and which are said to be doubtful, whatever they were read from.

use hdf5::types::{CompoundField, CompoundType, FixedAscii, IntSize, Reference, TypeDescriptor, VarLenUnicode};
use hdf5::{Extents, H5Type};

use crate::fixtures::{Raw, faces, refused, refused_by_all, unlock, words};
use crate::outlines::{attribute, folder, notes};
use crate::run::glasses;

const TRAIN: &str = "--data d.h5 --model dense.toml --max-steps 1 --out run";

fn data(dir: &std::path::Path) -> Raw {
    Raw::create(dir, "d.h5").features("train", 40)
}

fn texts(names: &[&str]) -> Vec<VarLenUnicode> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// A number and a text, as a table of pandas has them.
fn compound() -> TypeDescriptor {
    let field = |name: &str, kind, offset, index| CompoundField::new(name, kind, offset, index);
    let number = field("id", TypeDescriptor::Integer(IntSize::U4), 0, 0);
    let text = field("name", TypeDescriptor::FixedAscii(8), 4, 1);
    TypeDescriptor::Compound(CompoundType { fields: vec![number, text], size: 12 })
}

/// Three numbers as one value.
fn numbers() -> TypeDescriptor {
    TypeDescriptor::FixedArray(Box::new(TypeDescriptor::Integer(IntSize::U4)), 3)
}

/// Without values: of no extent, or of one that is 0.
fn empty<T: H5Type>(file: &hdf5::File, name: &str, extents: Extents) {
    file.new_attr::<T>().shape(extents).create(name).unwrap();
}

#[test]
fn an_attribute_of_class_names_that_is_no_list_of_texts_is_refused_as_what_it_is() {
    let dir = folder();
    let dir = dir.path();
    let check = |make: &dyn Fn(&hdf5::File), found: &str| {
        make(data(dir).file());
        let parts = ["d.h5 attribute 'classes'", found];
        refused(dir, "info d.h5", &parts);
        refused(dir, TRAIN, &parts);
    };
    let null = "found no values (a null dataspace), expected a name for each class";
    check(&|file| empty::<VarLenUnicode>(file, "classes", Extents::Null), null);
    check(&|file| empty::<FixedAscii<5>>(file, "classes", Extents::Null), null);
    check(&|file| empty::<i64>(file, "classes", Extents::Null), "found values of type int64, expected texts");
    check(&|file| empty::<VarLenUnicode>(file, "classes", (0,).into()), "found shape [0], expected a name");
    let put = |file: &hdf5::File, names: &[&str]| {
        file.new_attr_builder().with_data(&texts(names)).create("classes").map(drop).unwrap();
    };
    check(&|file| file.new_attr_builder().with_data(&[0i64, 1]).create("classes").map(drop).unwrap(), "type int64");
    check(&|file| file.new_attr_builder().with_data(&[true]).create("classes").map(drop).unwrap(), "type bool");
    for kind in [compound(), TypeDescriptor::Reference(Reference::Object), numbers()] {
        let words = kind.to_string();
        check(&|file| file.new_attr_builder().empty_as(&kind).shape(2).create("classes").map(drop).unwrap(), &words);
    }
    let long = [FixedAscii::<300>::from_ascii("cat").unwrap(), FixedAscii::from_ascii("dog").unwrap()];
    check(&|file| file.new_attr_builder().with_data(&long).create("classes").map(drop).unwrap(), "texts of 300 bytes");
    let square = ndarray::Array2::from_shape_vec((2, 2), texts(&["a", "b", "c", "d"])).unwrap();
    check(&|file| file.new_attr_builder().with_data(&square).create("classes").map(drop).unwrap(), "shape [2, 2]");
    // No UTF-8: é in Latin-1.
    put(data(dir).file(), &["cafQX", "dog"]);
    let mut bytes = std::fs::read(dir.join("d.h5")).unwrap();
    let place = bytes.windows(5).position(|letters| letters == b"cafQX").unwrap();
    bytes[place + 3] = 0xe9;
    std::fs::write(dir.join("d.h5"), bytes).unwrap();
    let parts = ["d.h5 attribute 'classes'[0]: found a name that is not UTF-8: 'caf\u{fffd}X'", "latin-1"];
    refused(dir, "info d.h5", &parts);
    refused_by_all(dir, TRAIN, &parts);
    // One axis is as good as another where the others are 1.
    let row = ndarray::Array2::from_shape_vec((1, 2), texts(&["cat", "dog"])).unwrap();
    data(dir).file().new_attr_builder().with_data(&row).create("classes").unwrap();
    assert!(glasses(&["info", "d.h5"], dir).success().stdout.contains("(cat 20, dog 20)"));
    // What it was made from is only told.
    empty::<VarLenUnicode>(data(dir).file(), "origin", Extents::Null);
    glasses(&["info", "d.h5"], dir).success();
}

#[test]
fn a_dataset_of_class_names_that_is_no_list_of_texts_is_refused_as_what_it_is() {
    let dir = folder();
    let dir = dir.path();
    let check = |make: &dyn Fn(&hdf5::File), found: &str| {
        make(data(dir).file());
        refused(dir, "info d.h5", &["d.h5 /classes: found ", found]);
        refused(dir, TRAIN, &["d.h5 /classes: found ", found]);
    };
    let of = |file: &hdf5::File, extents: Extents| {
        file.new_dataset::<VarLenUnicode>().shape(extents).create("classes").map(drop).unwrap();
    };
    check(&|file| of(file, Extents::Null), "no values (a null dataspace)");
    check(&|file| of(file, (0,).into()), "shape [0]");
    check(&|file| of(file, Extents::Scalar), "a single value, expected one axis");
    check(&|file| file.create_group("classes").map(drop).unwrap(), "a group, expected a dataset");
    for kind in [compound(), TypeDescriptor::Reference(Reference::Object)] {
        let words = kind.to_string();
        check(&|file| file.new_dataset_builder().empty_as(&kind).shape(2).create("classes").map(drop).unwrap(), &words);
    }
    let long = [FixedAscii::<300>::from_ascii("cat").unwrap(); 2];
    check(
        &|file| file.new_dataset_builder().with_data(&long).create("classes").map(drop).unwrap(),
        "texts of 300 bytes",
    );
    // And of the others that are read.
    Raw::create(dir, "d.h5").file().new_dataset::<f32>().shape(Extents::Null).create("train/features").unwrap();
    refused(dir, "info d.h5", &["/train/features: found no values (a null dataspace), expected 2 axes"]);
    let raw = Raw::create(dir, "d.h5").put("train/features", &[2, 2], &[0f32; 4]);
    raw.file().new_dataset::<i64>().create("train/labels").unwrap();
    drop(raw);
    refused(dir, "info d.h5", &["/train/labels: found a single value, expected [2], one label a row"]);
    let raw = Raw::create(dir, "d.h5").put("train/features", &[2, 2], &[0f32; 4]);
    raw.file().create_group("train/labels").unwrap();
    drop(raw);
    refused(dir, "info d.h5", &["/train/labels: found a group, expected a dataset"]);
}

#[test]
fn names_in_two_places_have_to_be_the_same() {
    let dir = folder();
    let dir = dir.path();
    let both = |attributes: &[&str], dataset: &[&str]| {
        attribute(&data(dir).put("classes", &[dataset.len()], &texts(dataset)), "classes", attributes);
    };
    both(&["cat", "dog"], &["cat", "dog"]);
    assert!(glasses(&["info", "d.h5"], dir).success().stdout.contains("(cat 20, dog 20)"));
    both(&[r#"["cat", "dog"]"#], &["cat", "dog"]);
    assert!(glasses(&["info", "d.h5"], dir).success().stdout.contains("(cat 20, dog 20)"));
    for dataset in [&["dog", "cat"][..], &["cat", "dog", "cow"]] {
        both(&["cat", "dog"], dataset);
        let parts =
            ["d.h5 /classes", &dataset.join(", "), "in the attribute 'classes' cat, dog", "del file['classes']"];
        refused(dir, "info d.h5", &parts);
        refused_by_all(dir, TRAIN, &parts);
    }
    // A group is something else.
    attribute(&data(dir).put("classes/of", &[2], &[1u8, 2]), "classes", &["cat", "dog"]);
    let said = notes(dir);
    assert!(said.contains("not read: /classes/of"), "{said}");
}

#[test]
fn a_model_that_lacks_a_value_is_refused_by_the_name_of_its_attribute() {
    let dir = faces();
    let dir = dir.path();
    glasses(&words("--data faces.h5 --model tiny.toml --max-steps 1 --out run"), dir).success();
    for name in ["version", "spec", "input", "features", "classes", "normalize", "format"] {
        std::fs::copy(dir.join("run/model.h5"), dir.join("bad.h5")).unwrap();
        let file = hdf5::File::open_rw(dir.join("bad.h5")).unwrap();
        file.delete_attr(name).unwrap();
        match name {
            "version" | "features" | "input" => empty::<i64>(&file, name, Extents::Null),
            _ => empty::<VarLenUnicode>(&file, name, Extents::Null),
        }
        file.close().unwrap();
        unlock(&dir.join("bad.h5"));
        let named = if name == "format" { "not a model" } else { name };
        refused(dir, "eval --model bad.h5 --data faces.h5", &["bad.h5", named]);
        refused(dir, "predict --model bad.h5 faces.h5", &["bad.h5", named]);
    }
}

#[test]
fn doubtful_names_in_hdf5_are_noted_by_training_and_info() {
    let dir = folder();
    let dir = dir.path();
    let said = |names: &[&str]| {
        attribute(&data(dir), "classes", names);
        notes(dir)
    };
    for (names, part) in [
        (&["Cat", "cat"][..], "two classes differ by their case alone: 'Cat' and 'cat'"),
        (&["caf\u{e9}", "cafe\u{301}"], "two classes look alike"),
        (&["cat", "cat\u{200b}"], r"'cat' and 'cat\u{200b}'"),
        (&["cat", " cat"], "two classes look alike"),
        (&["cat\n", "dog"], r"do not show: 'cat\n' (0)"),
        (&["", "dog"], "do not show: '' (0)"),
        (&["7", "007"], "one number, written differently, makes classes of its own: 7, 007"),
        (&["None", "dog"], "taken for names of classes: None"),
    ] {
        let said = said(names);
        assert!(said.contains(part), "{names:?}: {said}");
    }
    let twice = said(&["a", "b", "a", "b"]);
    assert!(twice.contains("classes 0 and 2 are both called 'a'; classes 1 and 3 are both called 'b'"), "{twice}");
    let many: Vec<String> = (0..13).flat_map(|i| [format!("k{i}"), format!("K{i}")]).collect();
    let many = said(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(many.contains("'k0' and 'K0'; ") && many.contains("; … and 3 more"), "{many}");
    assert_eq!(said(&["cat", "dog"]), "");
}

#[test]
fn doubtful_names_of_folders_and_tables_are_noted_alike() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let names = ["Cat", "cat", "Dog", "dog", "caf\u{e9}", "cafe\u{301}", "cow\u{200b}", "cow"];
    let mut table = "x,kind\n".to_owned();
    for (class, name) in names.iter().enumerate() {
        let folder = dir.join("p").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for row in 0..5u8 {
            let value = class as u8 * 20 + row;
            image::GrayImage::from_pixel(4, 4, image::Luma([value])).save(folder.join(format!("{row}.png"))).unwrap();
            table += &format!("{value},{name}\n");
        }
    }
    std::fs::write(dir.join("t.csv"), table).unwrap();
    for source in ["p --size 4", "t.csv"] {
        let said = glasses(&words(&format!("ingest {source} --force --out d.h5")), dir).success().stderr;
        for part in [
            "note: classes differ by their case alone: 'Cat' and 'cat'; 'Dog' and 'dog'\n",
            "note: classes look alike (",
            r"'cafe\u{301}' and 'caf\u{e9}'; 'cow' and 'cow\u{200b}'",
            r"note: names of classes that are empty, begin or end with a blank, or hold characters that do not show: 'cow\u{200b}'",
        ] {
            assert!(said.contains(part), "{source}: {part}: {said}");
        }
        // Once more where the dataset is used.
        let info = glasses(&["info", "d.h5"], dir).success().stdout;
        assert!(info.contains("'Cat' and 'cat'; 'Dog' and 'dog'"), "{info}");
    }
}
