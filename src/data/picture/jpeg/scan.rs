//! Whether a JPEG file holds every block of its picture (ITU-T T.81): its codes are read and counted, without their pixels. The decoder
//! fills up what is missing, and no decoder in Rust says so; libjpeg only warns.

use super::bits::{Bad, Bits, Huffman};
use super::{next_marker, standard, stands_alone};

/// Of a coefficient that no scan has.
const UNSEEN: u8 = 0xff;

/// A component of the frame.
struct Component {
    id: u8,
    /// Blocks of it in an MCU of all components: across and down.
    sampling: [usize; 2],
    /// Blocks that hold pixels.
    blocks: [usize; 2],
    /// Blocks in a row, with those that only fill an MCU.
    stride: usize,
    /// Progressive: which coefficients of each block are not zero, by bits.
    nonzero: Vec<u64>,
    /// By coefficient: how many of its lowest bits no scan has told yet.
    missing: [u8; 64],
}

/// SOF: what scans are to fill.
struct Frame {
    progressive: bool,
    components: Vec<Component>,
    mcus: [usize; 2],
}

/// Tables that hold for the next scan.
#[derive(Default)]
struct Tables {
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    /// MCUs between restart markers; 0 for none.
    interval: usize,
}

/// SOS: components by number with their tables, and which bits of which coefficients follow.
struct Scan {
    components: Vec<(usize, [usize; 2])>,
    band: [usize; 2],
    high: u8,
    low: u8,
}

/// A component of a scan: its number, its blocks in an MCU of the scan, and its tables.
struct ScanComponent<'a> {
    number: usize,
    blocks: [usize; 2],
    dc: Option<&'a Huffman>,
    ac: Option<&'a Huffman>,
}

/// What a decoder would fill up without a word, if anything.
///
/// # Errors
/// A sentence: what is missing, or damaged.
pub fn complete(bytes: &[u8]) -> Result<(), String> {
    let (mut at, mut tables, mut frame, mut scans) = (2, Tables::default(), None::<Frame>, 0);
    let broken = || "a damaged JPEG file: its segments do not fit together".to_owned();
    loop {
        let (marker, behind) = next_marker(bytes, at).ok_or_else(broken)?;
        at = behind;
        match marker {
            0xd9 => break,
            marker if stands_alone(marker) => continue,
            _ => {}
        }
        let length = bytes.get(at..at + 2).map_or(0, |two| usize::from(two[0]) << 8 | usize::from(two[1]));
        let segment = bytes.get(at + 2..at + length.max(2)).ok_or_else(broken)?;
        at += length.max(2);
        match marker {
            0xc4 => tables.define(segment).ok_or_else(broken)?,
            // A picture of a film.
            0xe0 if segment.starts_with(b"AVI1") => tables.define(&standard::TABLES).ok_or_else(broken)?,
            0xdd => tables.interval = segment.first_chunk::<2>().map_or(0, |two| u16::from_be_bytes(*two).into()),
            0xc0..=0xc2 if frame.is_none() => {
                let new = Frame::new(segment, marker == 0xc2).ok_or_else(broken)?;
                // Samples of other widths are the decoder's to refuse, and a height that only follows.
                let Some(new) = new else { return Ok(()) };
                frame = Some(new);
            }
            0xc0..=0xcf if marker != 0xc8 && marker != 0xcc => {
                return Err("a JPEG file of a kind that cannot be decoded here: lossless, arithmetic or hierarchical"
                    .to_owned());
            }
            0xda => {
                scans += 1;
                let frame = frame.as_mut().ok_or_else(broken)?;
                let scan = frame.begin(segment).ok_or_else(broken)?;
                at = frame.walk(&scan, &tables, bytes, at).map_err(|(bad, done, of)| {
                    let what = match bad {
                        Bad::Short => "ends",
                        Bad::Long => "goes on, and should not,",
                        Bad::Code => "is damaged",
                    };
                    format!("a JPEG file with a gap or damage: its scan {scans} {what} behind {done} of {of} blocks")
                })?;
            }
            _ => {}
        }
    }
    let missing = frame.iter().flat_map(|frame| &frame.components).any(|component| component.missing != [0; 64]);
    if missing { Err(format!("a JPEG file without its last scans: it has {scans}")) } else { Ok(()) }
}

impl Tables {
    fn define(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_at_checked(16)?;
            let total = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(total)?;
            let tables = if kind >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(kind & 15))? = Some(Huffman::new(counts, symbols)?);
            segment = rest;
        }
        Some(())
    }
}

impl Frame {
    /// Nothing where the header is damaged; nothing within where the decoder is to decide.
    fn new(segment: &[u8], progressive: bool) -> Option<Option<Frame>> {
        let (&[precision, h1, h2, w1, w2, count], rest) = segment.split_first_chunk::<6>()?;
        let size = [u16::from_be_bytes([w1, w2]), u16::from_be_bytes([h1, h2])].map(usize::from);
        if precision != 8 || size.contains(&0) {
            return Some(None);
        }
        let parts = rest.get(..3 * usize::from(count))?.chunks_exact(3);
        let samplings = parts.clone().map(|part| [part[1] >> 4, part[1] & 15].map(usize::from));
        let most: [usize; 2] = [0, 1].map(|axis| samplings.clone().map(|each| each[axis]).max().unwrap_or(1).max(1));
        if samplings.clone().any(|each| !(1..=4).contains(&each[0]) || !(1..=4).contains(&each[1])) {
            return None;
        }
        let mcus = [0, 1].map(|axis| size[axis].div_ceil(8 * most[axis]));
        let mut components = Vec::new();
        for (part, sampling) in parts.zip(samplings) {
            let blocks = [0, 1].map(|axis| (size[axis] * sampling[axis]).div_ceil(most[axis]).div_ceil(8));
            let stride = mcus[0] * sampling[0];
            let mut nonzero = Vec::new();
            if progressive {
                let all = stride * mcus[1] * sampling[1];
                nonzero.try_reserve_exact(all).ok()?;
                nonzero.resize(all, 0);
            }
            components.push(Component { id: part[0], sampling, blocks, stride, nonzero, missing: [UNSEEN; 64] });
        }
        Some(Some(Frame { progressive, components, mcus }))
    }

    /// Reads a scan's header and counts what it brings.
    fn begin(&mut self, segment: &[u8]) -> Option<Scan> {
        let (&count, rest) = segment.split_first()?;
        let (parts, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let &[first, last, bits] = rest.first_chunk::<3>()?;
        let mut scan =
            Scan { components: Vec::new(), band: [first.into(), last.into()], high: bits >> 4, low: bits & 15 };
        if !self.progressive {
            // Some encoders write no band.
            (scan.band, scan.high, scan.low) = ([0, 63], 0, 0);
        }
        let [first, last] = scan.band;
        if last > 63 || first > last || self.progressive && first == 0 && last > 0 || first > 0 && count != 1 {
            return None;
        }
        for part in parts.chunks_exact(2) {
            let number = self.components.iter().position(|component| component.id == part[0])?;
            let tables = [part[1] >> 4, part[1] & 15].map(usize::from);
            scan.components.push((number, tables));
            let before = if scan.high == 0 { UNSEEN } else { scan.high };
            let missing = &mut self.components[number].missing[first..=last];
            if self.progressive && missing.iter().any(|&bits| bits != before) {
                return None;
            }
            missing.fill(scan.low);
        }
        (!scan.components.is_empty()).then_some(scan)
    }

    /// Reads all blocks of a scan that begins at `at`, and returns the place of the marker behind it; or what is wrong, behind how many
    /// blocks of how many.
    fn walk(&mut self, scan: &Scan, tables: &Tables, bytes: &[u8], at: usize) -> Result<usize, (Bad, usize, usize)> {
        // A component alone has no blocks that only fill an MCU.
        let alone = if let [(only, _)] = scan.components[..] { Some(self.components[only].blocks) } else { None };
        let [across, down] = alone.unwrap_or(self.mcus);
        let in_mcu = |number: usize| if alone.is_some() { [1, 1] } else { self.components[number].sampling };
        let part = |&(number, [dc, ac]): &(usize, [usize; 2])| ScanComponent {
            number,
            blocks: in_mcu(number),
            dc: tables.dc.get(dc).and_then(Option::as_ref),
            ac: tables.ac.get(ac).and_then(Option::as_ref),
        };
        let parts: Vec<ScanComponent<'_>> = scan.components.iter().map(part).collect();
        let each: usize = parts.iter().map(|part| part.blocks[0] * part.blocks[1]).sum();
        let (mut bits, mut run) = (Bits::new(bytes, at), 0);
        for mcu in 0..across * down {
            let failed = |bad| (bad, mcu * each, across * down * each);
            if tables.interval > 0 && mcu > 0 && mcu % tables.interval == 0 {
                let number = (mcu / tables.interval - 1) % 8;
                let marker = bits.end().map_err(failed)?;
                match next_marker(bytes, marker) {
                    Some((found, behind)) if usize::from(found) == 0xd0 + number && run == 0 => {
                        bits = Bits::new(bytes, behind);
                    }
                    _ => return Err(failed(Bad::Code)),
                }
            }
            for &ScanComponent { number, blocks: [h, v], dc, ac } in &parts {
                let component = &mut self.components[number];
                for block in 0..h * v {
                    let (x, y) = (mcu % across * h + block % h, mcu / across * v + block / h);
                    let done = if self.progressive {
                        let nonzero = component.nonzero.get_mut(y * component.stride + x).ok_or(Bad::Code);
                        nonzero.and_then(|nonzero| {
                            progressive(&mut bits, scan, if scan.band[0] == 0 { dc } else { ac }, nonzero, &mut run)
                        })
                    } else {
                        match (dc, ac) {
                            (Some(dc), Some(ac)) => sequential(&mut bits, dc, ac),
                            _ => Err(Bad::Code),
                        }
                    };
                    done.map_err(failed)?;
                }
            }
        }
        let all = across * down * each;
        if run > 0 {
            return Err((Bad::Code, all, all));
        }
        bits.end().map_err(|bad| (bad, all, all))
    }
}

/// F.2.2: one block with all its coefficients.
fn sequential(bits: &mut Bits<'_>, dc: &Huffman, ac: &Huffman) -> Result<(), Bad> {
    bits.symbol(dc, |symbol| symbol)?;
    let mut next = 1;
    while next < 64 {
        let symbol = bits.symbol(ac, |symbol| symbol & 15)?;
        next += match (symbol >> 4, symbol & 15) {
            (15, 0) => 16,
            (_, 0) => return Ok(()),
            (zeros, _) => usize::from(zeros) + 1,
        };
    }
    if next > 64 { Err(Bad::Code) } else { Ok(()) }
}

/// G.2: a scan's part of one block. `run` counts blocks, from this one on, in which nothing begins to be other than zero.
fn progressive(
    bits: &mut Bits<'_>,
    scan: &Scan,
    table: Option<&Huffman>,
    nonzero: &mut u64,
    run: &mut u32,
) -> Result<(), Bad> {
    let [first, last] = scan.band;
    match (first, scan.high) {
        (0, 0) => return bits.symbol(table.ok_or(Bad::Code)?, |symbol| symbol).map(|_| ()),
        (0, _) => return bits.get(1).map(|_| ()),
        _ => {}
    }
    let (table, refines) = (table.ok_or(Bad::Code)?, scan.high > 0);
    let mut next = first;
    while *run == 0 && next <= last {
        let symbol = bits.symbol(table, |symbol| symbol & 15)?;
        let (mut zeros, size) = (symbol >> 4, symbol & 15);
        if size == 0 && zeros < 15 {
            *run = (1 << zeros) + bits.get(zeros.into())?;
            break;
        }
        if refines && size > 1 {
            return Err(Bad::Code);
        }
        // Coefficients that were other than zero before do not count, and have a bit each.
        while next <= last && (zeros > 0 || refines && *nonzero >> next & 1 == 1) {
            if refines && *nonzero >> next & 1 == 1 {
                bits.get(1)?;
            } else {
                zeros -= 1;
            }
            next += 1;
        }
        if size > 0 {
            if next > last {
                return Err(Bad::Code);
            }
            *nonzero |= 1 << next;
        } else if zeros > 0 {
            return Err(Bad::Code);
        }
        next += 1;
    }
    if *run > 0 {
        let rest = (*nonzero >> next).unbounded_shl((63 - last + next) as u32).count_ones();
        for _ in 0..if refines && next <= last { rest } else { 0 } {
            bits.get(1)?;
        }
        *run -= 1;
    }
    Ok(())
}
