//! A record of a segment: a frame of 40 octets, a head (JSON) and, for a message, its content.
//!
//! ```text
//!  0  marker    8  random, of the segment
//!  8  checksum  4  CRC32C of everything behind it
//! 12  kind      1
//! 13  zero      3
//! 16  octets    4  of head and content
//! 20  head      4  octets of the head
//! 24  session   8  the queue id
//! 32  number    4
//! 36  zero      4
//! 40  head, content, and zeros up to a multiple of 8
//! ```
//!
//! All numbers are little-endian. The marker finds the next record behind damage. It is random, because a message may
//! contain anything, also what looks like a record: a record with a guessable mark, forged inside a message, could be found
//! there and be sent without a policy having seen it.

use crate::mail::QueueId;

/// Octets of the frame.
pub(super) const FRAME_OCTETS: usize = 40;

/// Records begin at multiples of this.
pub(super) const ALIGNMENT: u64 = 8;

/// Head and content of one record at most. Larger content has a file of its own.
pub(super) const RECORD_OCTETS_MAX: u32 = 4 * 1024 * 1024;

/// The random number that all records of a segment begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker(pub(super) [u8; 8]);

impl Marker {
    /// The marker of records inside a footer. With the same one, the entries of a footer that was interrupted would be taken
    /// for records: messages without content.
    pub(super) fn in_footer(self) -> Self {
        Self(self.0.map(|octet| !octet))
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// A message: what is known of it, and its content.
    Message,
    /// A message whose content is in a file of its own.
    LargeMessage,
    /// A change of a message.
    Change,
    /// The records of a sealed segment without their content.
    Footer,
}

impl RecordKind {
    const fn octet(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::LargeMessage => 2,
            Self::Change => 3,
            Self::Footer => 4,
        }
    }

    fn of_octet(octet: u8) -> Option<Self> {
        [Self::Message, Self::LargeMessage, Self::Change, Self::Footer].into_iter().find(|kind| kind.octet() == octet)
    }

    /// The most that head and content may have. A footer is as large as its segment requires.
    const fn octets_max(self) -> u32 {
        match self {
            Self::Message | Self::LargeMessage | Self::Change => RECORD_OCTETS_MAX,
            Self::Footer => u32::MAX - 64,
        }
    }
}

/// The first octets of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: RecordKind,
    pub(super) id: QueueId,
    /// Of head and content.
    pub(super) octets: u32,
    pub(super) head_octets: u32,
    checksum: u32,
}

impl Frame {
    /// Reads a frame; `None` if these octets are none of this segment.
    pub(super) fn read(octets: &[u8], marker: Marker) -> Option<Self> {
        let octets: &[u8; FRAME_OCTETS] = octets.get(..FRAME_OCTETS)?.try_into().ok()?;
        if octets[..8] != marker.0 {
            return None;
        }
        let number = |at: usize| u32::from_le_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
        let session = u64::from(number(24)) | u64::from(number(28)) << 32;
        let frame = Self {
            kind: RecordKind::of_octet(octets[12])?,
            id: QueueId::from_numbers(session, number(32)),
            octets: number(16),
            head_octets: number(20),
            checksum: number(8),
        };
        (frame.octets <= frame.kind.octets_max() && frame.head_octets <= frame.octets).then_some(frame)
    }

    /// Octets of the whole record.
    pub(super) fn record_octets(&self) -> u64 {
        (FRAME_OCTETS as u64 + u64::from(self.octets)).next_multiple_of(ALIGNMENT)
    }

    /// Whether these octets of a record, from its beginning, are those that were written.
    pub(super) fn is_whole(&self, record: &[u8]) -> bool {
        let end = FRAME_OCTETS + self.octets as usize;
        record.get(12..end).is_some_and(|octets| crc32c::crc32c(octets) == self.checksum)
    }
}

/// Octets of a record with that much head and content.
pub(super) fn record_octets(head: usize, content: usize) -> u64 {
    (FRAME_OCTETS as u64 + head as u64 + content as u64).next_multiple_of(ALIGNMENT)
}

/// Appends a record.
pub(super) fn write(buffer: &mut Vec<u8>, marker: Marker, kind: RecordKind, id: QueueId, head: &[u8], content: &[u8]) {
    let start = buffer.len();
    let octets = u32::try_from(head.len() + content.len()).unwrap_or(u32::MAX);
    let head_octets = u32::try_from(head.len()).unwrap_or(u32::MAX);
    let (session, number) = id.to_numbers();
    buffer.extend_from_slice(&marker.0);
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&[kind.octet(), 0, 0, 0]);
    buffer.extend_from_slice(&octets.to_le_bytes());
    buffer.extend_from_slice(&head_octets.to_le_bytes());
    buffer.extend_from_slice(&session.to_le_bytes());
    buffer.extend_from_slice(&number.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(head);
    buffer.extend_from_slice(content);
    let checksum = crc32c::crc32c(&buffer[start + 12..]);
    buffer[start + 8..start + 12].copy_from_slice(&checksum.to_le_bytes());
    let end = start + (buffer.len() - start).next_multiple_of(ALIGNMENT as usize);
    buffer.resize(end, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: Marker = Marker(*b"\x91marker\x07");

    #[test]
    fn a_record_is_read_as_it_was_written_and_any_flipped_bit_is_noticed() {
        let id = QueueId::from_numbers(0x0102_0304_0506_0708, 9);
        let mut record = Vec::new();
        write(&mut record, MARKER, RecordKind::Message, id, b"{}", b"content");
        assert_eq!(record.len() as u64, record_octets(2, 7));
        let frame = Frame::read(&record, MARKER).unwrap();
        assert_eq!((frame.kind, frame.id, frame.octets, frame.head_octets), (RecordKind::Message, id, 9, 2));
        assert!(frame.is_whole(&record) && frame.record_octets() == record.len() as u64);
        for bit in 0..(FRAME_OCTETS + 9) * 8 {
            record[bit / 8] ^= 1 << (bit % 8);
            let noticed = Frame::read(&record, MARKER).is_none_or(|frame| !frame.is_whole(&record));
            assert!(noticed, "bit {bit}");
            record[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_record_that_is_cut_anywhere_is_not_whole() {
        let mut record = Vec::new();
        write(&mut record, MARKER, RecordKind::Change, QueueId::from_numbers(1, 1), b"{\"a\":1}", b"");
        for end in 0..FRAME_OCTETS + 7 {
            let cut = &record[..end];
            assert!(Frame::read(cut, MARKER).is_none_or(|frame| !frame.is_whole(cut)), "{end}");
        }
    }

    #[test]
    fn a_record_of_another_segment_is_none() {
        let mut record = Vec::new();
        write(&mut record, Marker([1; 8]), RecordKind::Change, QueueId::from_numbers(1, 1), b"{}", b"");
        assert_eq!(Frame::read(&record, MARKER), None);
    }
}
