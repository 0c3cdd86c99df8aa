//! A segment: a header, records one after the other, and, once it is sealed, a footer.
//!
//! The footer has all records without the content of messages, so that a start reads footers instead of whole segments.
//! The last 16 octets of a sealed segment say where it begins.

use super::record::{ALIGNMENT, FRAME_OCTETS, Frame, Marker, RecordKind, write};
use super::storage::StorageFile;
use crate::mail::QueueId;
use std::io;
use std::ops::Range;

/// Octets of the header.
pub(super) const HEADER_OCTETS: u64 = 64;

const MAGIC: &[u8; 16] = b"gatepost spool\n\0";
/// The version of the format. A change that an older program would misread raises it.
const VERSION: u32 = 1;
const CHECKED_OCTETS: usize = 60;
const TRAILER_OCTETS: u64 = 16;
const SUFFIX: &str = ".segment";

/// What is read at a time.
const WINDOW_OCTETS: usize = 1024 * 1024;

/// The first octets of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u32,
    pub(super) marker: Marker,
    /// The segment before this one, and where its records end. What stands behind was never acknowledged: it was
    /// written when the disk failed.
    pub(super) previous: Option<(u32, u64)>,
}

/// Why a header is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// A later version of the format.
    Newer(u32),
    /// Not a header, or a damaged one.
    Unreadable,
}

impl Header {
    pub(super) fn to_octets(self) -> [u8; HEADER_OCTETS as usize] {
        let mut octets = [0; HEADER_OCTETS as usize];
        let (previous, end) = self.previous.unwrap_or_default();
        octets[..16].copy_from_slice(MAGIC);
        octets[16..20].copy_from_slice(&VERSION.to_le_bytes());
        octets[20..24].copy_from_slice(&self.number.to_le_bytes());
        octets[24..32].copy_from_slice(&self.marker.0);
        octets[32..36].copy_from_slice(&previous.to_le_bytes());
        octets[40..48].copy_from_slice(&end.to_le_bytes());
        let checksum = crc32c::crc32c(&octets[..CHECKED_OCTETS]);
        octets[CHECKED_OCTETS..].copy_from_slice(&checksum.to_le_bytes());
        octets
    }

    pub(super) fn read(octets: &[u8; HEADER_OCTETS as usize]) -> Result<Self, HeaderError> {
        let number = |at: usize| u32::from_le_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
        if octets[..16] != *MAGIC {
            return Err(HeaderError::Unreadable);
        }
        if number(16) > VERSION {
            return Err(HeaderError::Newer(number(16)));
        }
        if number(CHECKED_OCTETS) != crc32c::crc32c(&octets[..CHECKED_OCTETS]) {
            return Err(HeaderError::Unreadable);
        }
        let mut marker = [0; 8];
        marker.copy_from_slice(&octets[24..32]);
        let end = u64::from(number(40)) | u64::from(number(44)) << 32;
        let previous = (number(32) != 0).then_some((number(32), end));
        Ok(Self { number: number(20), marker: Marker(marker), previous })
    }
}

/// The name of a segment's file. Numbers begin with 1.
pub(super) fn file_name(number: u32) -> String {
    format!("{number:010}{SUFFIX}")
}

/// The number in a segment's file name.
pub(super) fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok().filter(|number| *number > 0)?;
    (file_name(number) == name).then_some(number)
}

/// What a segment holds besides whole records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where the whole records end.
    pub(super) end: u64,
    /// Between whole records.
    pub(super) damaged: Vec<Range<u64>>,
    /// Behind the last whole record: a write that was interrupted.
    pub(super) torn: Option<Range<u64>>,
    /// Whether there is a footer.
    pub(super) sealed: bool,
}

/// Receives the offset, frame and head of each whole record.
pub(super) type EachRecord<'a> = dyn FnMut(u64, &Frame, &[u8]) + 'a;

/// Reads the records of a segment, from its footer if there is one. `limit`: where its records end, if that is known.
pub(super) fn read(
    file: &dyn StorageFile,
    marker: Marker,
    limit: Option<u64>,
    each: &mut EachRecord<'_>,
) -> io::Result<Extent> {
    let octets = file.octets()?;
    match read_footer(file, marker, octets)? {
        Some((end, footer)) if limit.is_none_or(|limit| limit == end) => {
            each_in_footer(&footer, marker, each);
            Ok(Extent { end, sealed: true, ..Extent::default() })
        }
        _ => scan(file, marker, limit.map_or(octets, |limit| limit.min(octets)), each),
    }
}

/// Reads all records of a segment with their content, and verifies their checksums.
pub(super) fn scan(
    file: &dyn StorageFile,
    marker: Marker,
    limit: u64,
    each: &mut EachRecord<'_>,
) -> io::Result<Extent> {
    let mut window = Window { file, limit, start: 0, octets: Vec::new() };
    let mut extent = Extent { end: HEADER_OCTETS, ..Extent::default() };
    let mut at = HEADER_OCTETS;
    loop {
        match window.record(at, marker)? {
            Some((frame, _)) if frame.kind == RecordKind::Footer => return Ok(extent),
            Some((frame, record)) => {
                each(at, &frame, &record[FRAME_OCTETS..FRAME_OCTETS + frame.head_octets as usize]);
                at += frame.record_octets();
                extent.end = at;
            }
            None => match window.next_record(at + ALIGNMENT, marker)? {
                Some(next) => {
                    extent.damaged.push(at..next);
                    at = next;
                }
                None => {
                    extent.torn = window.last_octet_set(at)?.map(|last| at..last + 1);
                    return Ok(extent);
                }
            },
        }
    }
}

/// Seals a segment whose records end at `end`. Returns the size of the file.
pub(super) fn seal(file: &dyn StorageFile, marker: Marker, end: u64) -> io::Result<u64> {
    let mut entries = Vec::new();
    let extent = scan(file, marker, end, &mut |offset, frame, head| {
        entries.extend_from_slice(&offset.to_le_bytes());
        entries.extend_from_slice(&u64::from(frame.octets).to_le_bytes());
        write(&mut entries, marker.in_footer(), frame.kind, frame.id, head, &[]);
    })?;
    if !extent.damaged.is_empty() || extent.end != end {
        return Err(io::Error::other("records that were just written are not there"));
    }
    let mut footer = Vec::new();
    write(&mut footer, marker, RecordKind::Footer, QueueId::from_numbers(0, 0), &entries, &[]);
    footer.extend_from_slice(&end.to_le_bytes());
    footer.extend_from_slice(&marker.0);
    file.write_at(&footer, end)?;
    let octets = end + footer.len() as u64;
    file.truncate(octets)?;
    file.sync()?;
    Ok(octets)
}

const ENTRY_OCTETS: usize = 16;

/// The footer, if there is a whole one: where the records end, and its entries.
fn read_footer(file: &dyn StorageFile, marker: Marker, octets: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let Some(at) = octets.checked_sub(TRAILER_OCTETS).filter(|at| *at >= HEADER_OCTETS) else { return Ok(None) };
    let mut trailer = [0; TRAILER_OCTETS as usize];
    file.read_at(&mut trailer, at)?;
    let (end, mark) = trailer.split_at(8);
    let end = number(end);
    if *mark != marker.0 || end < HEADER_OCTETS || end > at {
        return Ok(None);
    }
    let mut footer = vec![0; usize::try_from(at - end).map_err(io::Error::other)?];
    file.read_at(&mut footer, end)?;
    let whole =
        Frame::read(&footer, marker).is_some_and(|frame| frame.kind == RecordKind::Footer && frame.is_whole(&footer));
    footer.drain(..FRAME_OCTETS.min(footer.len()));
    Ok(whole.then_some((end, footer)))
}

fn each_in_footer(footer: &[u8], marker: Marker, each: &mut EachRecord<'_>) {
    let mut rest = footer;
    while let Some((entry, record)) = rest.split_at_checked(ENTRY_OCTETS) {
        let Some(frame) = Frame::read(record, marker.in_footer()) else { return };
        let (offset, octets) = (number(&entry[..8]), number(&entry[8..]));
        let Some(head) = record.get(FRAME_OCTETS..FRAME_OCTETS + frame.head_octets as usize) else { return };
        let mut whole = frame;
        whole.octets = u32::try_from(octets).unwrap_or(frame.octets);
        each(offset, &whole, head);
        rest = record.get(frame.record_octets() as usize..).unwrap_or_default();
    }
}

/// A little-endian number.
fn number(octets: &[u8]) -> u64 {
    octets.iter().rev().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

/// A part of a segment in memory, which moves with what is read.
struct Window<'a> {
    file: &'a dyn StorageFile,
    limit: u64,
    start: u64,
    octets: Vec<u8>,
}

impl Window<'_> {
    /// The octets at that offset, or fewer where the segment ends.
    fn octets(&mut self, at: u64, wanted: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.limit.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let held = at >= self.start && at + wanted as u64 <= self.start + self.octets.len() as u64;
        if !held {
            self.octets.resize(wanted.max(WINDOW_OCTETS).min(left), 0);
            self.start = at;
            if let Err(error) = self.file.read_at(&mut self.octets, at) {
                self.octets.clear();
                return Err(error);
            }
        }
        let from = (at - self.start) as usize;
        Ok(&self.octets[from..from + wanted])
    }

    /// The whole record at that offset.
    fn record(&mut self, at: u64, marker: Marker) -> io::Result<Option<(Frame, &[u8])>> {
        let Some(frame) = Frame::read(self.octets(at, FRAME_OCTETS)?, marker) else { return Ok(None) };
        if at + frame.record_octets() > self.limit {
            return Ok(None);
        }
        let record = self.octets(at, frame.record_octets() as usize)?;
        Ok(frame.is_whole(record).then_some((frame, record)))
    }

    /// Where the next whole record begins.
    fn next_record(&mut self, from: u64, marker: Marker) -> io::Result<Option<u64>> {
        let mut at = from;
        while at < self.limit {
            let octets = self.octets(at, WINDOW_OCTETS)?;
            // A search for the marker: it is at no other place than a record's beginning, by chance apart.
            let Some(found) = octets.chunks(ALIGNMENT as usize).position(|chunk| *chunk == marker.0) else {
                at += octets.len() as u64;
                continue;
            };
            at += found as u64 * ALIGNMENT;
            if self.record(at, marker)?.is_some() {
                return Ok(Some(at));
            }
            at += ALIGNMENT;
        }
        Ok(None)
    }

    /// The last octet from that offset on that is not zero.
    fn last_octet_set(&mut self, from: u64) -> io::Result<Option<u64>> {
        let (mut at, mut last) = (from, None);
        while at < self.limit {
            let octets = self.octets(at, WINDOW_OCTETS)?;
            last = octets.iter().rposition(|octet| *octet != 0).map(|found| at + found as u64).or(last);
            at += octets.len() as u64;
        }
        Ok(last)
    }
}
