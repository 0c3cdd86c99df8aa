//! The header of a segment that was found, and the marker where the header is damaged.

use super::record::{FRAME_OCTETS, Marker, RECORD_OCTETS_MAX};
use super::segment::{self, HEADER_OCTETS, Header, HeaderError};
use super::storage::StorageFile;
use std::io;

/// The marker of a segment. `None`: it cannot be read.
pub(super) fn marker_of(file: &dyn StorageFile) -> io::Result<Option<Marker>> {
    Ok(match header(file)? {
        FoundHeader::Header(header) => Some(header.marker),
        _ => None,
    })
}

/// What a segment begins with.
pub(super) enum FoundHeader {
    Header(Header),
    Newer(u32),
    /// Nothing but zeros.
    Empty,
    Unreadable,
}

/// Reads the header of a segment.
pub(super) fn header(file: &dyn StorageFile) -> io::Result<FoundHeader> {
    let octets = file.octets()?;
    let mut header = [0; HEADER_OCTETS as usize];
    let there = HEADER_OCTETS.min(octets) as usize;
    file.read_at(&mut header[..there], 0)?;
    Ok(match Header::read(&header) {
        Ok(header) => FoundHeader::Header(header),
        Err(HeaderError::Newer(version)) => FoundHeader::Newer(version),
        Err(HeaderError::Unreadable) => match first_marker(file, octets)? {
            // The header is damaged, and the records are not. Where the segment before it ends is not known then; its scan finds it.
            Some(marker) => FoundHeader::Header(Header { number: 0, marker, previous: None }),
            None if is_zero(file, octets)? => FoundHeader::Empty,
            None => FoundHeader::Unreadable,
        },
    })
}

/// The marker of the first record, which stands at a known place.
fn first_marker(file: &dyn StorageFile, octets: u64) -> io::Result<Option<Marker>> {
    let mut mark = [0; 8];
    if octets < HEADER_OCTETS + FRAME_OCTETS as u64 {
        return Ok(None);
    }
    file.read_at(&mut mark, HEADER_OCTETS)?;
    let mut found = false;
    let _ = segment::scan(file, Marker(mark), octets.min(HEADER_OCTETS + FIRST_RECORD_OCTETS), &mut |_, _, _| {
        found = true
    })?;
    Ok(found.then_some(Marker(mark)))
}

/// Where a scan for the first record ends.
const FIRST_RECORD_OCTETS: u64 = RECORD_OCTETS_MAX as u64 + 2 * FRAME_OCTETS as u64;

fn is_zero(file: &dyn StorageFile, octets: u64) -> io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    while at < octets {
        let length = buffer.len().min(usize::try_from(octets - at).unwrap_or(usize::MAX));
        file.read_at(&mut buffer[..length], at)?;
        if buffer[..length].iter().any(|octet| *octet != 0) {
            return Ok(false);
        }
        at += length as u64;
    }
    Ok(true)
}
