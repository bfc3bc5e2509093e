//! Event files that TensorBoard reads: scalars, pictures, texts.
//!
//! A file is a sequence of records: the length of an `Event` (u64), its checksum, the event, its checksum; all little-endian.
//! Checksums are CRC-32C, masked.

mod kept;
mod proto;
pub mod picture;

pub use kept::keep_steps;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::error::{Error, Result};
use picture::Picture;
use proto::{Event, Image, Metadata, PluginData, SessionLog, Shape, Size, Summary, Tensor, Value};

/// What the names of event files begin with.
const PREFIX: &str = "events.out.tfevents.";
/// The version of the format, which stands in the first event.
const VERSION: &str = "brain.Event:2";
/// A session that begins: what stands behind its step in older files is no longer part of the run.
const START: i32 = 1;
/// TensorFlow's number for texts.
const STRINGS: i32 = 7;

/// The summaries of one step of a run; added up, then written as one event.
#[derive(Debug, Default)]
pub struct StepSummary(Vec<Value>);

impl StepSummary {
    /// A number in the curve `tag`.
    pub fn scalar(&mut self, tag: &str, value: f64) {
        self.0.push(Value { tag: tag.to_owned(), number: Some(value as f32), ..Value::default() });
    }

    /// A picture under the name `tag`.
    pub fn picture(&mut self, tag: &str, picture: &Picture) {
        let Ok(png) = picture.png() else { return };
        let (height, width) = (picture.height() as i32, picture.width() as i32);
        let image = Image { height, width, colorspace: 3, encoded: png };
        self.0.push(Value { tag: tag.to_owned(), image: Some(image), ..Value::default() });
    }

    /// Markdown under the name `tag`.
    pub fn text(&mut self, tag: &str, markdown: &str) {
        let plugin = Some(PluginData { name: "text".to_owned() });
        let shape = Some(Shape { dim: vec![Size { size: 1 }] });
        let tensor = Tensor { kind: STRINGS, shape, strings: vec![markdown.as_bytes().to_vec()] };
        let metadata = Some(Metadata { plugin });
        self.0.push(Value { tag: tag.to_owned(), tensor: Some(tensor), metadata, ..Value::default() });
    }
}

/// An event file that grows.
#[derive(Debug)]
pub struct Events {
    file: File,
    path: std::path::PathBuf,
}

impl Events {
    /// A file of its own in `folder`, for a process that has something to say of `step` and those after it: TensorBoard reads all of a
    /// folder's files in the order of their names, and one that is open drops what it has read of these steps.
    ///
    /// # Errors
    /// When the folder refuses.
    pub fn create(folder: &Path, step: usize) -> Result<Events> {
        let host = gethostname::gethostname();
        let host = host.to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
        // Nanoseconds as well: two files of a folder never have one name.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{PREFIX}{}.{host}.{}.{:09}", now.as_secs(), std::process::id(), now.subsec_nanos());
        let path = folder.join(name);
        let file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(Error::io("create", &path))?;
        let mut events = Events { file, path };
        events.write(Event { version: Some(VERSION.to_owned()), ..Event::default() })?;
        let session = Some(SessionLog { status: START });
        events.write(Event { step: step as i64, session, ..Event::default() })?;
        Ok(events)
    }

    /// Whether the file still has its name.
    pub fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// Adds a step's summaries, in one write.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn add(&mut self, step: usize, step_summary: StepSummary) -> Result<()> {
        self.write(Event { step: step as i64, summary: Some(Summary { values: step_summary.0 }), ..Event::default() })
    }

    fn write(&mut self, mut event: Event) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        event.wall_time = now.as_secs_f64();
        self.file.write_all(&record(&event.encode_to_vec())).map_err(Error::io("write", &self.path))
    }
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked_checksum(&length), event, &masked_checksum(event)].concat()
}

/// Masked, as the format wants it, because checksums of data that hold checksums are weak.
fn masked_checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}
