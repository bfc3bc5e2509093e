//! HDF5 files that are valid and hostile: what `glasses` expects, with any part of it changed.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use hdf5::types::{FloatSize, IntSize, TypeDescriptor, VarLenUnicode};
use sha2::{Digest, Sha256};

/// What the file is meant to be.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Rows of pictures.
    Images,
    /// Rows of numbers.
    Features,
    /// Weights.
    Model,
    /// A run's state.
    State,
}

/// A file: what it should be, and what is changed.
#[derive(Arbitrary, Clone, Debug)]
pub struct Foreign {
    /// What it should be.
    pub kind: Kind,
    rows: u8,
    latest: bool,
    changes: Vec<(u8, Change)>,
    attributes: Vec<(u8, Value)>,
    /// Bytes to change in the finished file: a place, and what is added there.
    pub damage: Vec<(u16, u8)>,
}

/// The text of a state, where it is to be a real one.
pub static META: OnceLock<String> = OnceLock::new();

/// What is changed of a dataset.
#[derive(Arbitrary, Clone, Debug)]
enum Change {
    Gone,
    Type(u8),
    Axis(u8, Size),
    OneMore(Size),
    OneLess,
    Chunked(Vec<Size>),
    Compact,
    Filter(u8, u8),
    ManyParameters,
    External,
    Virtual,
    Soft,
    Elsewhere,
    Group,
    Unwritten,
    Fill(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Size {
    Small(u8),
    Large(u32),
    Huge(u64),
}

impl Size {
    fn get(self) -> usize {
        match self {
            Size::Small(size) => usize::from(size),
            Size::Large(size) => size as usize,
            // Beyond that the crate's own arithmetic ends.
            Size::Huge(size) => (size >> 2) as usize,
        }
    }
}

/// What an attribute is instead.
#[derive(Arbitrary, Clone, Debug)]
enum Value {
    Gone,
    Text(String),
    Texts(Vec<String>),
    Many(u16),
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    Bytes(Vec<u8>),
    Fixed(Vec<u8>),
}

struct Item {
    name: String,
    shape: Vec<usize>,
    kind: TypeDescriptor,
    changes: Vec<Change>,
}

/// The network of models and states.
pub const SPEC: &str = "name = \"t\"\nlayers = [\"conv 3x3x2\", \"relu\", \"flatten\", \"dense classes\"]";

impl Foreign {
    /// What it should be.
    pub fn plain(kind: Kind) -> Foreign {
        Foreign { kind, rows: 8, latest: false, changes: Vec::new(), attributes: Vec::new(), damage: Vec::new() }
    }

    /// Writes it; where HDF5 does not make such a thing, it is left out.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join(if self.kind == Kind::State { "step-000000003.h5" } else { "foreign.h5" });
        self.build(&path).expect("a file can be made");
        let mut bytes = std::fs::read(&path).expect("it is there");
        for &(place, add) in &self.damage {
            let head = if self.kind == Kind::State { 512 } else { 0 };
            let place = head + usize::from(place) % (bytes.len() - head);
            bytes[place] = bytes[place].wrapping_add(add);
        }
        if self.kind == Kind::State {
            let hash: String = Sha256::digest(&bytes[512..]).iter().map(|byte| format!("{byte:02x}")).collect();
            let behind = bytes.len() - 512;
            let head = format!("glasses checkpoint 1\nsha256 {hash} of the {behind} bytes behind this block\n");
            bytes[..512].fill(0);
            bytes[..head.len()].copy_from_slice(head.as_bytes());
        }
        std::fs::write(&path, bytes).expect("room");
        // What a file leads to: whoever reads that file leaves it alone. (Who wrote it did not.)
        std::fs::write(folder.join("canary"), vec![1u8; 4096]).expect("room");
        path
    }

    fn build(&self, path: &Path) -> hdf5::Result<()> {
        let mut options = hdf5::File::with_options();
        if self.kind == Kind::State {
            options.with_fcpl(|p| p.userblock(512));
        }
        options.with_fapl(|p| if self.latest { p.libver_latest() } else { p.libver_earliest() });
        let file = options.create(path)?;
        let mut items = self.items();
        let count = items.len();
        for (place, change) in &self.changes {
            items[usize::from(*place) % count].changes.push(change.clone());
        }
        for (place, item) in items.iter().enumerate() {
            let _ = item.write(&file, place);
        }
        let mut attributes = self.attributes();
        for (place, value) in &self.attributes {
            let count = attributes.len().max(1);
            if let Some((_, old)) = attributes.get_mut(usize::from(*place) % count) {
                *old = value.clone();
            }
        }
        for (name, value) in attributes {
            let _ = value.write(&file, name);
        }
        file.close()
    }

    fn items(&self) -> Vec<Item> {
        let rows = usize::from(self.rows % 9);
        let (u8s, f32s) = (TypeDescriptor::Unsigned(IntSize::U1), TypeDescriptor::Float(FloatSize::U4));
        let i64s = TypeDescriptor::Integer(IntSize::U8);
        let item = |name: &str, shape: &[usize], kind: &TypeDescriptor| {
            let (name, shape, kind) = (name.to_owned(), shape.to_vec(), kind.clone());
            Item { name, shape, kind, changes: Vec::new() }
        };
        let weights = |group: &str| {
            [
                ("conv0.weight", &[3, 3, 1, 2][..]),
                ("conv0.bias", &[2]),
                ("dense3.weight", &[32, 2]),
                ("dense3.bias", &[2]),
            ]
            .map(|(name, shape)| item(&format!("{group}/{name}"), shape, &f32s))
        };
        let split = |split: &str| match self.kind {
            Kind::Images => item(&format!("{split}/images"), &[rows, 4, 4, 1], &u8s),
            _ => item(&format!("{split}/features"), &[rows, 5], &f32s),
        };
        match self.kind {
            Kind::Model => {
                [weights("params").into(), vec![item("mean", &[1], &f32s), item("inverse_deviation", &[1], &f32s)]]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Kind::State => [weights("params"), weights("optimizer/first"), weights("optimizer/second")]
                .into_iter()
                .flatten()
                .chain([item("meta", &[], &TypeDescriptor::VarLenUnicode)])
                .collect(),
            _ => ["train", "test"]
                .into_iter()
                .flat_map(|name| [split(name), item(&format!("{name}/labels"), &[rows], &i64s)])
                .collect(),
        }
    }

    fn attributes(&self) -> Vec<(&'static str, Value)> {
        let text = |text: &str| Value::Text(text.to_owned());
        let classes = ("classes", Value::Texts(vec!["a".to_owned(), "b".to_owned()]));
        match self.kind {
            Kind::State => Vec::new(),
            Kind::Model => vec![
                ("format", text("glasses model")),
                ("version", Value::Integers(vec![1])),
                ("spec", text(SPEC)),
                ("input", Value::Integers(vec![4, 4, 1])),
                ("features", Value::Integers(vec![0])),
                classes,
                ("normalize", text("dataset")),
            ],
            _ => vec![classes, ("origin", text("somewhere"))],
        }
    }
}

fn kind(number: u8) -> TypeDescriptor {
    use TypeDescriptor::*;
    let sizes = [IntSize::U1, IntSize::U2, IntSize::U4, IntSize::U8];
    match number % 17 {
        n @ 0..=3 => Integer(sizes[usize::from(n)]),
        n @ 4..=7 => Unsigned(sizes[usize::from(n) - 4]),
        8 => Float(FloatSize::U4),
        9 => Float(FloatSize::U8),
        10 => VarLenUnicode,
        11 => VarLenAscii,
        12 => FixedAscii(1 + usize::from(number)),
        13 => FixedUnicode(300),
        14 => FixedArray(Box::new(Float(FloatSize::U4)), 3),
        15 => VarLenArray(Box::new(Integer(IntSize::U8))),
        _ => Boolean,
    }
}

impl Item {
    fn write(&self, file: &hdf5::File, place: usize) -> hdf5::Result<()> {
        let (mut shape, mut kind_of, mut chunk) = (self.shape.clone(), self.kind.clone(), None);
        let (mut written, mut fill, mut filters, mut layout) = (true, 0, Vec::new(), None);
        let (mut external, mut is_virtual) = (false, false);
        let name = &*self.name;
        let canary = Path::new(&file.filename()).with_file_name("canary");
        let canary = canary.to_str().expect("a path of letters");
        if let Some((group, _)) = name.rsplit_once('/') {
            let mut whole = String::new();
            for part in group.split('/') {
                whole = format!("{whole}/{part}");
                if !file.link_exists(&whole) {
                    file.create_group(&whole)?;
                }
            }
        }
        for change in &self.changes {
            match change {
                Change::Gone => return Ok(()),
                Change::Type(number) => kind_of = kind(*number),
                Change::Axis(axis, size) if !shape.is_empty() => {
                    let axis = usize::from(*axis) % shape.len();
                    shape[axis] = size.get();
                }
                Change::Axis(..) => {}
                Change::OneMore(size) => shape.push(size.get()),
                Change::OneLess => drop(shape.pop()),
                Change::Chunked(sizes) => chunk = Some(sizes.iter().map(|size| size.get()).collect::<Vec<_>>()),
                Change::Compact => layout = Some(hdf5::plist::dataset_create::Layout::Compact),
                Change::Filter(filter, parameter) => {
                    filters.push((i32::from(*filter % 7), vec![u32::from(*parameter)]))
                }
                Change::ManyParameters => filters.push((1, vec![1; 40])),
                Change::External => external = true,
                Change::Virtual => is_virtual = true,
                Change::Soft => return file.link_soft("/somewhere/else", name),
                Change::Elsewhere => return file.link_external(canary, "/a", name),
                Change::Group => return file.create_group(name).map(drop),
                Change::Unwritten => written = false,
                Change::Fill(byte) => fill = *byte,
            }
        }
        // What overflows cannot be written by the crate; tests/it/hostile.rs has one.
        while shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size.max(1) as u64)).is_none() {
            shape.iter_mut().for_each(|size| *size >>= 8);
        }
        // Nor does HDF5 survive writing two layouts at once.
        if layout.is_some() || external || is_virtual {
            (chunk, filters) = (None, Vec::new());
        }
        if layout.is_some() {
            (external, is_virtual) = (false, false);
        }
        external &= !is_virtual;
        if chunk.is_none() && !filters.is_empty() {
            chunk = Some(shape.iter().map(|&size| size.clamp(1, 8)).collect());
        }
        // The others' own code does not survive parameters that they did not choose.
        written &= filters.iter().all(|(filter, _)| *filter <= 3);
        if let Some(chunk) = &mut chunk {
            chunk.resize(shape.len(), 1);
        }
        let builder = file.new_dataset_builder().with_dcpl(|p| {
            for (filter, parameters) in &filters {
                p.add_filter(*filter, parameters);
            }
            if external {
                p.external(canary, 0, 0);
            }
            if is_virtual {
                p.virtual_map(canary, "/a", (1,), .., (1,), ..);
            }
            if let Some(layout) = layout {
                p.layout(layout);
            }
            if let Some(chunk) = &chunk {
                p.chunk(chunk.clone());
            }
            p
        });
        let dataset = builder.empty_as(&kind_of).shape(shape.clone()).create(name)?;
        let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if self.name == "meta" {
            let text = META.get().map_or("{\"glasses\":\"0.1.0\"}", String::as_str);
            let text: VarLenUnicode = text.parse().expect("no NUL");
            return dataset.write_scalar(&text);
        }
        match count.filter(|&count| written && count <= 1 << 14) {
            None => Ok(()),
            Some(count) => {
                let values: Vec<u8> =
                    (0..count).map(|at| if fill > 0 { fill } else { (at + place) as u8 % 2 }).collect();
                dataset.write_raw(&values)
            }
        }
    }
}

impl Value {
    fn write(&self, file: &hdf5::File, name: &str) -> hdf5::Result<()> {
        let text = |text: &String| text.replace('\0', "0").parse::<VarLenUnicode>().expect("no NUL");
        let builder = file.new_attr_builder();
        match self {
            Value::Gone => Ok(()),
            Value::Text(one) => file.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&text(one)),
            Value::Texts(many) => builder.with_data(&many.iter().map(text).collect::<Vec<_>>()).create(name).map(drop),
            Value::Many(many) => {
                let many: Vec<VarLenUnicode> = (0..*many).map(|number| text(&number.to_string())).collect();
                builder.with_data(&many).create(name).map(drop)
            }
            Value::Integers(one) if one.len() == 1 => file.new_attr::<i64>().create(name)?.write_scalar(&one[0]),
            Value::Integers(many) => builder.with_data(many).create(name).map(drop),
            Value::Floats(many) => builder.with_data(many).create(name).map(drop),
            Value::Bytes(many) => builder.with_data(many).create(name).map(drop),
            Value::Fixed(bytes) => {
                let kind = TypeDescriptor::FixedAscii(1 + bytes.len() * 2);
                builder.empty_as(&kind).shape([bytes.len()]).create(name).map(drop)
            }
        }
    }
}
