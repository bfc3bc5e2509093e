//! MNIST's IDX files (<https://yann.lecun.com/exdb/mnist/>): big-endian sizes, then u8 values.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::labels::classes_of;
use super::source::Images;
use super::{Content, Request, Source, folder};
use crate::data::foreign::MOST;
use crate::data::{RowShape, Split};
use crate::error::{Error, Result};
use crate::plural::plural;

const IMAGES: [&str; 2] = ["-images-idx3-ubyte", "-images.idx3-ubyte"];
const LABELS: [&str; 2] = ["-labels-idx1-ubyte", "-labels.idx1-ubyte"];

/// The name of the part, `train` or `t10k`: what stands before the ending, gzipped or not.
fn part_of(file: &Path, endings: [&str; 2]) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").unwrap_or(name);
    endings.iter().find_map(|ending| name.strip_suffix(ending)).map(str::to_owned)
}

/// Whether the folder holds IDX images.
///
/// # Errors
/// When it cannot be listed.
pub fn is_idx_folder(path: &Path) -> Result<bool> {
    let (files, _) = folder::entries(path)?;
    Ok(files.iter().any(|file| part_of(file, IMAGES).is_some()))
}

/// Reads all parts in the folder: `train` and, where it is there, `t10k` or `test`, which becomes the test split.
///
/// # Errors
/// When a file is missing, damaged or does not fit its fellow.
pub fn read(request: &Request) -> Result<Source> {
    let path = &request.source;
    let (files, _) = folder::entries(path)?;
    let (mut pixels, mut values, mut given) = (Vec::new(), Vec::new(), Vec::new());
    let mut size = None;
    for (split, ending) in [(None, &["train"][..]), (Some(Split::Test), &["t10k", "test"][..])] {
        let Some((images, labels)) = pair(path, &files, ending)? else { continue };
        let ImageFile { h, w, pixels: part } = read_images(&images)?;
        let part_labels = read_labels(&labels)?;
        let count = part.len() / (h * w);
        if part_labels.len() != count {
            let (found, expected) =
                (plural(part_labels.len(), "label"), format!("{count}, as in {}", images.display()));
            return Err(Error::invalid(labels.display().to_string(), found, expected, "get both files again"));
        }
        if *size.get_or_insert((h, w)) != (h, w) {
            let found = format!("images of {h}x{w}");
            return Err(Error::invalid(
                images.display().to_string(),
                found,
                "the size of the training images",
                "get the files again",
            ));
        }
        if pixels.is_empty() {
            pixels = part
        } else {
            pixels.extend(part)
        }
        given.resize(given.len() + count, split);
        values.extend(part_labels);
    }
    let Some(size) = size.filter(|_| given.contains(&None)) else {
        return Err(Error::invalid(
            path.display().to_string(),
            "no training images",
            "train-images-idx3-ubyte and train-labels-idx1-ubyte (with . for -, or .gz)",
            "put the files of the training set there",
        ));
    };
    let texts: Vec<String> = values.iter().map(u8::to_string).collect();
    let (labels, classes) = classes_of(texts.iter().map(String::as_str));
    let new_size = request.size.unwrap_or(size);
    let channels = request.channels.unwrap_or(1);
    Ok(Source {
        shape: RowShape::Image { h: new_size.0, w: new_size.1, c: channels },
        content: Content::Idx(Images { pixels, size, new_size, channels }),
        labels,
        given,
        classes,
        bad: Vec::new(),
        hint: None,
        unlabelled: 0,
        origin: format!("the IDX files in {}", path.display()),
        notes: Vec::new(),
    })
}

/// The images and labels of the part whose name ends in one of `endings`; the plain file where a .gz lies beside it.
fn pair(path: &Path, files: &[PathBuf], endings: &[&str]) -> Result<Option<(PathBuf, PathBuf)>> {
    let find = |kind: [&str; 2], wanted: &dyn Fn(&str) -> bool| {
        files.iter().filter(|file| part_of(file, kind).is_some_and(|part| wanted(&part))).cloned().collect::<Vec<_>>()
    };
    let is_part = |name: &str| endings.iter().any(|end| name == *end || name.ends_with(&format!("-{end}")));
    let mut images = find(IMAGES, &is_part);
    let mut parts: Vec<String> = images.iter().filter_map(|file| part_of(file, IMAGES)).collect();
    parts.dedup();
    let part = match &parts[..] {
        [] => return Ok(None),
        [part] => part,
        _ => {
            let found = format!("several parts: {}", parts.join(", "));
            let place = path.display().to_string();
            return Err(Error::invalid(place, found, "one data set", "put each data set in a folder of its own"));
        }
    };
    let mut labels = find(LABELS, &|name| name == part);
    // Sorted by name, so that `x` stands before `x.gz`.
    images.truncate(1);
    labels.truncate(1);
    match (images.pop(), labels.pop()) {
        (Some(images), Some(labels)) => Ok(Some((images, labels))),
        _ => {
            let (found, expected) = (format!("no {part}-labels-idx1-ubyte"), "one beside the images");
            Err(Error::invalid(path.display().to_string(), found, expected, "put the labels beside the images"))
        }
    }
}

/// The images of a file, all of one size.
struct ImageFile {
    h: usize,
    w: usize,
    pixels: Vec<u8>,
}

fn read_images(path: &Path) -> Result<ImageFile> {
    let ([count, h, w], pixels) = read_idx::<3>(path)?;
    if count * h * w == 0 {
        let found = format!("{} of {h}x{w}", plural(count, "image"));
        return Err(Error::invalid(path.display().to_string(), found, "images", "get the file again"));
    }
    Ok(ImageFile { h, w, pixels })
}

fn read_labels(path: &Path) -> Result<Vec<u8>> {
    Ok(read_idx::<1>(path)?.1)
}

/// The sizes and values of an IDX file of u8 with `N` dimensions.
fn read_idx<const N: usize>(path: &Path) -> Result<([usize; N], Vec<u8>)> {
    let file = crate::files::read(path)?;
    let packed = file.starts_with(&[0x1f, 0x8b]);
    let unpacked: &mut dyn Read = &mut flate2::read::MultiGzDecoder::new(&file[..]);
    let mut plain = &file[..];
    let source: &mut dyn Read = if packed { unpacked } else { &mut plain };
    let action = if packed { "unpack" } else { "read" };
    let bad = |found: String, expected: String| {
        Err(Error::invalid(path.display().to_string(), found, expected, "get the file again"))
    };
    let (header, magic) = (4 + 4 * N, [0, 0, 8, N as u8]);
    let mut head = Vec::new();
    (&mut *source).take(header as u64).read_to_end(&mut head).map_err(Error::io(action, path))?;
    if head.len() < header || head[..4] != magic {
        let start = &head[..head.len().min(4)];
        return bad(format!("a file that starts with {start:?}"), format!("an IDX header, {magic:?}"));
    }
    let (sizes, _) = head[4..].as_chunks::<4>();
    let mut dims = [0; N];
    for (dim, size) in dims.iter_mut().zip(sizes) {
        *dim = u32::from_be_bytes(*size) as usize;
    }
    let length = dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
    let said = dims.map(|d| d.to_string()).join(" x ");
    let said = || format!("{said}, as its header says");
    // What the header says is believed as far as the file can hold it, and what is packed beyond it is left where it is.
    let most = file.len().saturating_mul(if packed { MOST as usize } else { 1 });
    let Some(length) = length.filter(|&length| length <= most) else {
        return bad(format!("a file of {}", plural(file.len(), "byte")), format!("values: {}", said()));
    };
    let mut values = Vec::with_capacity(length + 1);
    source.take(length as u64 + 1).read_to_end(&mut values).map_err(Error::io(action, path))?;
    if values.len() != length {
        let count = if values.len() > length { "more values".to_owned() } else { plural(values.len(), "value") };
        return bad(count, said());
    }
    Ok((dims, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dims.len() as u8];
        dims.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn request(folder: &Path) -> Request {
        Request { source: folder.to_owned(), ..Request::default() }
    }

    #[test]
    fn both_spellings_and_gzip_are_read_and_t10k_is_the_test_split() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: Vec<u8>| std::fs::write(folder.path().join(name), bytes).unwrap();
        assert!(!is_idx_folder(folder.path()).unwrap());
        put("train-images.idx3-ubyte", idx(&[3, 1, 2], &[1, 2, 3, 4, 5, 6]));
        put("train-labels-idx1-ubyte", idx(&[3], &[9, 2, 9]));
        assert!(is_idx_folder(folder.path()).unwrap());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &idx(&[1, 1, 2], &[7, 8])).unwrap();
        put("t10k-images-idx3-ubyte.gz", gzip.finish().unwrap());
        put("t10k-labels.idx1-ubyte", idx(&[1], &[2]));
        let source = read(&request(folder.path())).unwrap();
        assert_eq!(source.labels, [1, 0, 1, 0]);
        assert_eq!(source.classes, ["2", "9"]);
        assert_eq!(source.given, [None, None, None, Some(Split::Test)]);
        assert_eq!(source.shape, RowShape::Image { h: 1, w: 2, c: 1 });
        let Content::Idx(images) = source.content else { panic!() };
        assert_eq!(images.row(3), [7, 8]);
        let three = Request { channels: Some(3), ..request(folder.path()) };
        let Content::Idx(images) = read(&three).unwrap().content else { panic!() };
        assert_eq!(images.row(0), [1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn files_that_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: Vec<u8>| std::fs::write(folder.path().join(name), bytes).unwrap();
        let message = || read(&request(folder.path())).unwrap_err().to_string();
        put("train-images-idx3-ubyte", idx(&[3, 1, 2], &[1, 2, 3, 4, 5]));
        assert!(message().contains("labels"), "{}", message());
        put("train-labels-idx1-ubyte", idx(&[2], &[0, 1]));
        assert!(message().contains("3 x 1 x 2"), "{}", message());
        put("train-images-idx3-ubyte", idx(&[3, 1, 2], &[1, 2, 3, 4, 5, 6]));
        assert!(message().contains("2 labels"), "{}", message());
        put("train-labels-idx1-ubyte", b"<html>".to_vec());
        assert!(message().contains("header"), "{}", message());
    }
}
