//! Huffman codes and the bits between two markers (ITU-T T.81, C and F.2.2).

/// Codes of up to so many bits are looked up at once.
const FAST: u32 = 9;

/// A Huffman table.
pub struct Huffman {
    /// By the next bits: length and symbol of the code they begin with; length 0 where it is longer.
    fast: Box<[(u8, u8); 1 << FAST]>,
    /// By length: the first 16 bits that begin with no code of this length, nor a shorter one.
    limit: [u32; 17],
    /// By length: what is added to a code for its place among the symbols.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// From the count of codes of each length and their symbols; nothing where there are more than fit.
    pub fn new(counts: &[u8], symbols: &[u8]) -> Option<Huffman> {
        let mut table = Huffman {
            fast: Box::new([(0, 0); 1 << FAST]),
            limit: [0; 17],
            offset: [0; 17],
            symbols: symbols.to_owned(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for (length, &count) in (1u32..=16).zip(counts) {
            table.offset[length as usize] = place as i32 - code as i32;
            for _ in 0..count {
                let symbol = *symbols.get(place)?;
                if length <= FAST {
                    let first = (code << (FAST - length)) as usize;
                    table.fast.get_mut(first..first + (1 << (FAST - length)))?.fill((length as u8, symbol));
                }
                (code, place) = (code + 1, place + 1);
            }
            if code > 1 << length {
                return None;
            }
            table.limit[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }
}

/// Why the bits are not those of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// They end too early.
    Short,
    /// There are more than the picture takes.
    Long,
    /// No code begins so, or it says what cannot be.
    Code,
}

/// The bits from a place up to the next marker.
pub struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte to be buffered.
    at: usize,
    /// The next bits stand at the top; below the first `count` are zeros.
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Bits<'a> {
        Bits { bytes, at, buffer: 0, count: 0 }
    }

    /// At least 32 bits, where there are so many before the next marker.
    #[inline]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(&[a, b, c, d]) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<4>())
            && ![a, b, c, d].contains(&0xff)
        {
            self.buffer |= u64::from(u32::from_be_bytes([a, b, c, d])) << (32 - self.count);
            self.at += 4;
            self.count += 32;
            return;
        }
        while self.count <= 56
            && let Some((byte, behind)) = self.next_byte()
        {
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.at = behind;
            self.count += 8;
        }
    }

    /// The next byte of data, and the place behind it. FF is one where 00 follows it, with further FFs between or without.
    fn next_byte(&self) -> Option<(u8, usize)> {
        let byte = *self.bytes.get(self.at)?;
        if byte != 0xff {
            return Some((byte, self.at + 1));
        }
        let behind = self.bytes.get(self.at..)?.iter().position(|&byte| byte != 0xff)?;
        (self.bytes[self.at + behind] == 0).then_some((0xff, self.at + behind + 1))
    }

    #[inline]
    fn take(&mut self, count: u32) -> Result<u32, Bad> {
        if count > self.count {
            return Err(Bad::Short);
        }
        // Nothing is shifted by 64.
        let value = (self.buffer >> 32 >> (32 - count)) as u32;
        self.buffer <<= count;
        self.count -= count;
        Ok(value)
    }

    /// The next `count` bits, at most 16.
    #[inline]
    pub fn get(&mut self, count: u32) -> Result<u32, Bad> {
        self.fill();
        self.take(count)
    }

    /// The next symbol of a table. At most 16 bits that follow it, and their number is what `extra` says of it, are passed over.
    #[inline]
    pub fn symbol(&mut self, table: &Huffman, extra: impl FnOnce(u8) -> u8) -> Result<u8, Bad> {
        self.fill();
        let next = (self.buffer >> 48) as u32;
        let (mut length, mut symbol) = table.fast[(next >> (16 - FAST)) as usize];
        if length == 0 {
            let longer = (FAST + 1..=16).find(|&length| next < table.limit[length as usize]);
            // What is missing was taken for zeros.
            let long = longer.ok_or(if self.count < 16 { Bad::Short } else { Bad::Code })?;
            let place = (next >> (16 - long)) as i32 + table.offset[long as usize];
            symbol = *table.symbols.get(place as usize).ok_or(Bad::Code)?;
            length = long as u8;
        }
        self.take(u32::from(length) + u32::from(extra(symbol) & 15))?;
        Ok(symbol)
    }

    /// The place of the next marker, which must stand here: behind bits that fill a byte, and behind zeros, as some cameras add them to an
    /// end of ones.
    pub fn end(mut self) -> Result<usize, Bad> {
        let fill = self.count % 8;
        let ones = self.take(fill)? + 1 == 1 << fill;
        let mut more = 0;
        loop {
            self.fill();
            if self.count == 0 {
                break;
            }
            more += 1;
            if self.take(8)? != 0 {
                return Err(Bad::Long);
            }
        }
        // Where a file's end was never written there are zeros, too.
        if more == 0 || ones && (fill > 0 || more < 4) { Ok(self.at) } else { Err(Bad::Long) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_read_up_to_the_marker_and_no_further() {
        // 0, 10, 110, and one of eleven bits: 11100000000.
        let mut counts = [0; 16];
        (counts[0], counts[1], counts[2], counts[10]) = (1, 1, 1, 1);
        let table = Huffman::new(&counts, &[7, 8, 9, 10]).unwrap();
        // 0 10 110 11100000000 0 10 and four ones, before a marker; FF is written FF 00.
        let data = [0b0101_1011, 0b1000_0000, 0b0010_1111, 0xff, 0xd9];
        let mut bits = Bits::new(&data, 0);
        for want in [7, 8, 9, 10, 7, 8] {
            assert_eq!(bits.symbol(&table, |_| 0), Ok(want));
        }
        assert_eq!(bits.end(), Ok(3));
        let mut bits = Bits::new(&[0xff, 0, 0xff, 0xff, 0, 0x12, 0xff, 0xff, 0xd9], 0);
        assert_eq!((bits.get(16), bits.get(8), bits.get(1)), (Ok(0xffff), Ok(0x12), Err(Bad::Short)));
        assert_eq!(Bits::new(&[0x12, 0xff, 0xd9], 0).end(), Err(Bad::Long));
        assert_eq!(Bits::new(&[0xff, 0xff, 0xff], 0).symbol(&table, |_| 0), Err(Bad::Short));
        assert_eq!(Bits::new(&[0xff, 0, 0xff, 0, 1, 2], 0).symbol(&table, |_| 0), Err(Bad::Code));
        assert!(Huffman::new(&[3], &[1, 2, 3]).is_none() && Huffman::new(&[1], &[]).is_none());
    }

    #[test]
    fn zeros_behind_an_end_of_ones_are_passed_over_and_zeros_behind_zeros_are_not() {
        let end = |bytes: &[u8]| {
            let mut bits = Bits::new(bytes, 0);
            bits.get(4).unwrap();
            bits.end()
        };
        assert_eq!(end(&[0x1f, 0, 0, 0, 0, 0, 0, 0xff, 0xd9]), Ok(7));
        assert_eq!(end(&[0x10, 0, 0xff, 0xd9]), Err(Bad::Long));
        assert_eq!(end(&[0x10, 0xff, 0xd9]), Ok(1));
        assert_eq!(end(&[0x1f, 0, 1, 0xff, 0xd9]), Err(Bad::Long));
    }
}
