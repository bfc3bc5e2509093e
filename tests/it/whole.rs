//! Pictures that are not whole, hold more than one, or are larger than the memory: right or refused, and said.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use tempfile::{TempDir, tempdir};

use crate::fixtures::{faces, words};
use crate::run::{glasses, mpirun, shell};

/// A picture of 40x33 as Pillow writes it: progressive, 4:2:0, a restart marker behind every four blocks.
const PROGRESSIVE: &str = "\
    /9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpR\
    Uk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wgARCAAhACgDASIAAhEB\
    AxEB/8QAGQAAAwEBAQAAAAAAAAAAAAAAAAQFAwEC/8QAGAEBAQEBAQAAAAAAAAAAAAAAAwQBAgD/3QAEAAT/2gAMAwEAAhADEAAAAaKDU0fJUVKVeOGR\
    FzLE6VnP/9Dfjkw0XFCub3UDHdkhEf8A/9GcA7f/xAAbEAACAwEBAQAAAAAAAAAAAAAAAQIDIRExQf/aAAgBAQABBQJLLmd2lH//0OY55Y+ihv8A/9Gt\
    cJTyUyOn/9KMCWEpn3//06UfLmff/9Re1D8tP//VXv8A/8QAHREAAgICAwEAAAAAAAAAAAAAAAMBAhESBDFBIf/aAAgBAwEBPwFLPJHL9go3EDK6Tk//\
    0F23jBdX0f0cc//Rv2f/xAAcEQACAQUBAAAAAAAAAAAAAAAAAgEDERIhMjH/2gAIAQIBAT8B2jGnUZZiSomUXP/QpvjNiVhticjdH//RTw//xAAVEAEB\
    AAAAAAAAAAAAAAAAAAAgAP/aAAgBAQAGPwIf/9Af/9Ef/9If/9Mf/9Qf/9W//8QAGRABAQEBAQEAAAAAAAAAAAAAAAERITEQ/9oACAEBAAE/IYQxWq6v\
    /9CRHI2tj//RwsDunb//0uK8tau1/9N8j7u1/9Qeft//1V//2gAMAwEAAgADAAAAEPo8/f/QL9fe/9H/AP/EABkRAAMAAwAAAAAAAAAAAAAAAAABERAh\
    Mf/aAAgBAwEBPxAqRNgxsR//0E1DFri6P//RD//EABkRAAMAAwAAAAAAAAAAAAAAAAABERAgMf/aAAgBAgEBPxB4SgkKmP/Qddog/wD/0eZ//8QAHBAB\
    AQEBAAIDAAAAAAAAAAAAAQARMSGBEJGh/9oACAEBAAE/ELeRBverxNL/0JQYbKmTaZf/0SDYMNlUbIW+b//SMDkbTobL2r//0+Cl+K4Bj7V//9S+Xw9N\
    /9W//9k=";

/// The same in one scan, with tables of its own and a restart marker behind every three blocks.
const BASELINE: &str = "\
    /9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpR\
    Uk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAhACgDASIAAhEB\
    AxEB/8QAGAAAAwEBAAAAAAAAAAAAAAAAAAUGBAL/xAAhEAACAgIBBQEBAAAAAAAAAAAAAQIDBBEFEjEyM4EhIv/EABgBAQEBAQEAAAAAAAAAAAAAAAUE\
    AwAB/8QAIREAAQQBBAMBAAAAAAAAAAAAAwABAgQSESIyMwUhMUL/3QAEAAP/2gAMAwEAAhEDEQA/AKOqqMKhDzN3SmkxpdmKNetk3yVruk9Ej5AIupWP\
    xJJZ2ynd9KHhqerW0KaMNys3opOOrVMVsW2nGvLtfTfFOY1RhSBkyMxRr1sAUg5QloyzDbeMdHX/0MGVntya2GLF3yW/0Tycp3fSk4Wns2iiyFiwyZTW\
    BOGeTJjjYCUU9HOXNURY5/mFPwmOau8kmQVjOKeLpKuVjQxdYMnPcpNbAUrqnd9AVkKJNyNNVdp+l//RnavaVPEeKAC0PWtb/FObvUSnLd2AApe1TeP+\
    pTR7QABwHBkibkv/2Q==";

fn put(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn flat(brightness: u8, format: ImageFormat) -> Vec<u8> {
    encoded(&DynamicImage::ImageRgb8(RgbImage::from_pixel(8, 8, Rgb([brightness; 3]))), format)
}

/// A folder with a model of pictures in `run`.
fn trained() -> TempDir {
    let dir = faces();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 1 --out run"), dir.path()).success();
    dir
}

/// Where markers with these second bytes stand.
fn markers(bytes: &[u8], which: std::ops::RangeInclusive<u8>) -> Vec<usize> {
    (0..bytes.len() - 1).filter(|&at| bytes[at] == 0xff && which.contains(&bytes[at + 1])).collect()
}

/// Where the first scan's data begin.
fn data_of(bytes: &[u8]) -> usize {
    let scan = markers(bytes, 0xda..=0xda)[0];
    scan + 2 + usize::from(bytes[scan + 3])
}

#[test]
fn a_jpeg_with_a_gap_is_refused_though_its_end_is_there() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let files = [PROGRESSIVE, BASELINE].map(|text| STANDARD.decode(text).unwrap());
    let grey =
        DynamicImage::ImageLuma8(image::GrayImage::from_fn(37, 29, |x, y| image::Luma([((x * 7) ^ (y * 5)) as u8])));
    let plain = encoded(&grey, ImageFormat::Jpeg);
    let (mut good, mut bad) = (0, 0);
    for (name, whole) in ["progressive", "baseline", "plain"].iter().zip([&files[0], &files[1], &plain]) {
        let (data, end) = (data_of(whole), whole.len() - 2);
        let mut put_good = |kind: &str, bytes: &[u8]| {
            put(dir, &format!("good/a/{name}-{kind}.jpg"), bytes);
            good += 1;
        };
        put_good("whole", whole);
        put_good("film", &[whole, &b"\xff\xd8\xff\xda ftyp"[..]].concat());
        put_good("zeros", &[&whole[..end], &[0; 3], &whole[end..]].concat());
        put_good("lines", &[&whole[..end], &[0xff, 0xdc, 0, 4, 0, 33], &whole[end..]].concat());
        let mut filled = whole[..data].to_vec();
        for (at, &byte) in whole.iter().enumerate().skip(data) {
            // Fill bytes before every marker.
            let marker = byte == 0xff && whole.get(at + 1).is_some_and(|&next| next >= 0xc0);
            filled.extend(if marker { &[0xff, 0xff, 0xff][..] } else { std::slice::from_ref(&whole[at]) });
        }
        put_good("filled", &filled);
        let mut put_bad = |kind: &str, bytes: &[u8]| {
            put(dir, &format!("bad/a/{name}-{kind}.jpg"), bytes);
            bad += 1;
        };
        for percent in (10..=95).step_by(5) {
            let kept = &whole[..data + (end - data) * percent / 100];
            put_bad(&format!("cut-{percent}"), &[kept, &[0xff, 0xd9]].concat());
            put_bad(&format!("zeros-{percent}"), &[kept, &vec![0; end - kept.len()], &[0xff, 0xd9]].concat());
        }
        for (number, scan) in markers(whole, 0xda..=0xda).into_iter().enumerate().skip(1) {
            put_bad(&format!("scans-{number}"), &[&whole[..scan], &[0xff, 0xd9]].concat());
        }
        // Restart markers between blocks: one missing, one in another's place, a piece between two gone.
        let restarts: Vec<usize> = markers(&whole[data..], 0xd0..=0xd7).into_iter().map(|at| at + data).collect();
        if let [first, second, third, ..] = restarts[..] {
            put_bad("restart-missing", &[&whole[..second], &whole[second + 2..]].concat());
            put_bad("restart-gap", &[&whole[..first], &whole[third..]].concat());
            let mut swapped = whole.clone();
            swapped.swap(first + 1, second + 1);
            put_bad("restart-order", &swapped);
        }
    }
    put(dir, "good/b/x.png", &flat(9, ImageFormat::Png));
    put(dir, "bad/b/x.png", &flat(9, ImageFormat::Png));
    put(dir, "bad/a/x.png", &flat(9, ImageFormat::Png));
    let end = glasses(&words("ingest good --size 8 --test 0 --out g.h5"), dir).success();
    assert!(end.stdout.contains(&format!("2 classes: a ({good}), b (1)")), "{end:?}");
    let message = glasses(&words("ingest bad --size 8 --test 0 --out b.h5"), dir).failure();
    assert!(message.contains(&format!("{bad} of {} pictures cannot be used", bad + 2)), "{message}");
    assert!(bad > 110 && message.contains("a JPEG file with"), "{message}");
    let end = mpirun(2, &words("ingest bad --size 8 --test 0 --skip-bad --out b.h5"), dir).success();
    assert!(end.stdout.contains("2 classes: a (1), b (1)"), "{end:?}");
}

#[test]
fn a_file_of_another_kind_that_was_cut_short_is_refused() {
    let dir = trained();
    let dir = dir.path();
    let noise = |x: u32, y: u32| Rgb([((x * 37) ^ (y * 91)) as u8, (x * y) as u8, (x * x + 3 * y) as u8]);
    let picture = DynamicImage::ImageRgb8(RgbImage::from_fn(40, 30, noise));
    let mut count = 0;
    for (ending, format) in [
        ("png", ImageFormat::Png),
        ("bmp", ImageFormat::Bmp),
        ("webp", ImageFormat::WebP),
        ("tif", ImageFormat::Tiff),
        ("ppm", ImageFormat::Pnm),
    ] {
        let whole = encoded(&picture, format);
        for percent in [20, 50, 80, 97] {
            put(dir, &format!("cut/{percent}.{ending}"), &whole[..whole.len() * percent / 100]);
            count += 1;
        }
    }
    // Runs of equal pixels in a bitmap of 8 columns and rows, with an end behind the fourth.
    let head: [u32; 13] = [0, 0, 54 + 1024, 40, 8, 8, 1 | 8 << 16, 1, 0, 0, 0, 256, 0];
    let runs = |rows: usize| {
        let head = head.iter().flat_map(|word| word.to_le_bytes());
        let palette = (0..=255u8).flat_map(|value| [value, value, value, 0]);
        let rows = [8, 77, 0, 0].repeat(rows);
        b"BM".iter().copied().chain(head).chain(palette).chain(rows).chain([0, 1]).collect::<Vec<u8>>()
    };
    put(dir, "runs.bmp", &runs(8));
    glasses(&words("predict --model run runs.bmp"), dir).success();
    put(dir, "cut/runs.bmp", &runs(4));
    // A JPEG file within a TIFF.
    let strip = |percent: usize| {
        let whole = encoded(&DynamicImage::ImageLuma8(picture.to_luma8()), ImageFormat::Jpeg);
        let kept =
            [&whole[..data_of(&whole) + (whole.len() - data_of(&whole)) * percent / 100], &[0xff, 0xd9]].concat();
        let strip = if percent == 100 { whole } else { kept };
        let entry = |tag: u16, kind: u16, count: u32, value: u32| {
            [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat()
        };
        let data = 8 + 2 + 9 * 12 + 4;
        let entries = [
            entry(256, 4, 1, 40),
            entry(257, 4, 1, 30),
            entry(258, 3, 1, 8),
            entry(259, 3, 1, 7),
            entry(262, 3, 1, 1),
            entry(273, 4, 1, data),
            entry(277, 3, 1, 1),
            entry(278, 4, 1, 30),
            entry(279, 4, 1, strip.len() as u32),
        ];
        [&b"II*\0\x08\0\0\0\x09\0"[..], &entries.concat(), &[0; 4], &strip].concat()
    };
    put(dir, "whole.tif", &strip(100));
    glasses(&words("predict --model run whole.tif"), dir).success();
    put(dir, "cut/strip.tif", &strip(50));
    count += 2;
    let message = glasses(&words("predict --model run cut"), dir).failure();
    assert!(message.contains(&format!("{count} of {count} pictures could not be read")), "{message}");
    // What is said of the others is true.
    assert!(message.contains("; none has been predicted"), "{message}");
    put(dir, "cut/whole.png", &encoded(&picture, ImageFormat::Png));
    let message = mpirun(2, &words("predict --model run cut"), dir).failure();
    assert!(message.contains("; the other one has been predicted"), "{message}");
}

/// A chunk of a PNG.
fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc.sum().to_be_bytes()].concat()
}

/// A PNG of `frames` frames, without those behind the first: these are not looked at.
fn animated_png(frames: u32) -> Vec<u8> {
    let plain = flat(40, ImageFormat::Png);
    let head = 8 + 25;
    let animation = chunk(b"acTL", &[frames.to_be_bytes(), [0; 4]].concat());
    let frame = chunk(b"fcTL", &[&[0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8][..], &[0; 8], &[0, 1, 0, 9, 0, 0]].concat());
    [&plain[..head], &animation, &frame, &plain[head..]].concat()
}

/// A WebP of two frames, the same picture twice.
fn animated_webp() -> Vec<u8> {
    let part = |kind: &[u8], data: &[u8]| [kind, &(data.len() as u32).to_le_bytes(), data].concat();
    let picture = &flat(60, ImageFormat::WebP)[12..];
    // A whole canvas of 8x8 for 100 ms.
    let frame = part(b"ANMF", &[&[0, 0, 0, 0, 0, 0, 7, 0, 0, 7, 0, 0, 100, 0, 0, 0][..], picture].concat());
    let head = part(b"VP8X", &[2, 0, 0, 0, 7, 0, 0, 7, 0, 0]);
    let body = [&b"WEBP"[..], &head, &part(b"ANIM", &[0; 6]), &frame, &frame].concat();
    part(b"RIFF", &body)
}

/// A TIFF with a page for each of these, grey; with `kind` its subfile type.
fn pages(kinds: &[u32]) -> Vec<u8> {
    use tiff::encoder::{TiffEncoder, colortype::Gray8};
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut file = TiffEncoder::new(&mut bytes).unwrap();
    for &kind in kinds {
        let mut page = file.new_image::<Gray8>(8, 8).unwrap();
        page.encoder().write_tag(tiff::tags::Tag::NewSubfileType, kind).unwrap();
        page.write_data(&[80; 64]).unwrap();
    }
    bytes.into_inner()
}

#[test]
fn the_first_of_several_frames_is_taken_and_that_is_noted_once() {
    let dir = trained();
    let dir = dir.path();
    put(dir, "src/a/1.png", &animated_png(2));
    put(dir, "src/a/2.webp", &animated_webp());
    put(dir, "src/b/3.tif", &pages(&[0, 0, 0]));
    // One frame, and a page with a smaller copy of itself and a mask.
    put(dir, "src/b/4.png", &animated_png(1));
    put(dir, "src/b/5.tif", &pages(&[0, 1, 4]));
    let note = "note: 3 files hold several frames: the first is taken (src/a/1.png, …)";
    for ranks in [1, 3] {
        for args in ["ingest src --size 8 --test 0 --force --out d.h5", "predict --model run src"] {
            let end = if ranks == 1 { glasses(&words(args), dir) } else { mpirun(ranks, &words(args), dir) }.success();
            assert_eq!(end.stderr.matches("several frames").count(), 1, "{args}: {end:?}");
            assert!(end.stderr.contains(note), "{args}: {end:?}");
        }
    }
    let end = glasses(&words("predict --model run src/b"), dir).success();
    assert!(end.stderr.contains("note: src/b/3.tif holds several frames: the first is taken\n"), "{end:?}");
    // A name does not command the terminal, and is not another's.
    std::fs::rename(dir.join("src/b/3.tif"), dir.join("src/b/3\u{1b}[7m.tif")).unwrap();
    for args in ["predict --model run src/b", "ingest src --size 24 --out again.h5"] {
        let end = glasses(&words(args), dir).success();
        assert!(end.stderr.contains("several frames") && !end.stderr.contains('\u{1b}'), "{args}: {end:?}");
    }
    let end = glasses(&words("predict --model run src/b/4.png src/b/5.tif"), dir).success();
    assert!(!end.stderr.contains("frames"), "{end:?}");
}

#[test]
fn a_picture_that_memory_does_not_suffice_for_is_one_bad_picture() {
    let dir = trained();
    let dir = dir.path();
    put(dir, "src/a/1.png", &flat(1, ImageFormat::Png));
    put(dir, "src/a/2.jpg", &flat(2, ImageFormat::Jpeg));
    put(dir, "src/b/3.png", &flat(3, ImageFormat::Png));
    let large = DynamicImage::ImageRgb8(RgbImage::new(6000, 6000));
    put(dir, "src/b/large.png", &encoded(&large, ImageFormat::Png));
    glasses(&words("predict --model run src/b/large.png"), dir).success();
    let limited = |args: &str| shell(&format!("ulimit -v 300000; $GLASSES {args}"), dir);
    let end = limited("predict --model run src");
    let message = format!("{end:?}");
    assert!(message.contains("1 of 4 pictures could not be read"), "{message}");
    assert!(message.contains("src/b/large.png: a picture of 6000x6000 pixels, which takes "), "{message}");
    assert!(message.contains("MB, more than there is memory for"), "{message}");
    assert!(message.contains("the 3 others have been predicted") && end.stdout.lines().count() == 3, "{message}");
    let message = limited("ingest src --size 8 --test 0 --out d.h5").failure();
    assert!(message.contains("1 of 4 pictures cannot be used") && message.contains("src/b/large.png"), "{message}");
    limited("ingest src --size 8 --test 0 --skip-bad --out d.h5").success();
}
