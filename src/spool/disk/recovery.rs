//! The start of a log: whole records count, the torn tail of the last segment does not, a damaged record is set aside.

use super::super::queue::{Queue, lock};
use super::found_header::{FoundHeader, header};
use super::head::Head;
use super::log::{DAMAGED, Location, Segment, SegmentLog, TORN, content_name};
use super::record::{Frame, Marker, RecordKind};
use super::segment;
use super::storage::{CONTENT, CORRUPT, Storage, StorageFile};
use crate::mail::QueueId;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Messages in the queue.
    pub messages: u64,
    /// Damaged records, set aside in `corrupt/`.
    pub damaged: u64,
    /// Octets of writes that were interrupted, set aside in `corrupt/`.
    pub torn_octets: u64,
    /// Files that are no part of the spool. They were left alone.
    pub foreign: Vec<String>,
}

/// Why a spool cannot be opened.
#[derive(Debug)]
pub(super) enum LogError {
    Newer { name: String, version: u32 },
    Io { name: String, error: io::Error },
}

impl SegmentLog {
    /// Reads what is there into the queue.
    pub(super) fn open(
        storage: Arc<dyn Storage>,
        queue: Arc<Mutex<Queue<Location>>>,
        segment_octets: u64,
    ) -> Result<(Self, Recovery), LogError> {
        let mut log = Self::new(storage, queue, segment_octets);
        let recovery = log.recover()?;
        Ok((log, recovery))
    }

    fn recover(&mut self) -> Result<Recovery, LogError> {
        let mut recovery = Recovery::default();
        let at = |name: &str| {
            let name = name.to_owned();
            move |error| LogError::Io { name, error }
        };
        let mut headers = BTreeMap::new();
        for name in self.storage.list("").map_err(at(""))? {
            let Some(number) = segment::number_of(&name) else {
                if name != super::LOCK {
                    recovery.foreign.push(name);
                }
                continue;
            };
            self.next = self.next.max(number.saturating_add(1));
            let file = self.storage.open(&name).map_err(at(&name))?;
            match header(&*file).map_err(at(&name))? {
                FoundHeader::Header(header) => {
                    headers.insert(number, (file, header));
                }
                FoundHeader::Newer(version) => return Err(LogError::Newer { name, version }),
                // It was being created.
                FoundHeader::Empty => self.storage.remove(&name).map_err(at(&name))?,
                FoundHeader::Unreadable => recovery.foreign.push(name),
            }
        }
        let ends: BTreeMap<u32, u64> = headers.values().filter_map(|(_, header)| header.previous).collect();
        for (number, (file, header)) in headers {
            let name = segment::file_name(number);
            self.recover_segment(number, &*file, header.marker, ends.get(&number).copied(), &mut recovery)
                .map_err(at(&name))?;
        }
        // Of a message whose record is damaged, the content may be good.
        let keep = recovery.damaged > 0 || recovery.torn_octets > 0 || !recovery.foreign.is_empty();
        self.remove_contents_without_message(keep).map_err(at(CONTENT))?;
        recovery.damaged =
            self.storage.list(CORRUPT).map_err(at(CORRUPT))?.iter().filter(|name| name.ends_with(DAMAGED)).count()
                as u64;
        recovery.messages = lock(&self.queue).usage().messages;
        Ok(recovery)
    }

    fn recover_segment(
        &mut self,
        number: u32,
        file: &dyn StorageFile,
        marker: Marker,
        limit: Option<u64>,
        recovery: &mut Recovery,
    ) -> io::Result<()> {
        self.segments.insert(number, Segment { octets: file.octets()?, marker: Some(marker), ..Segment::default() });
        let mut unreadable = Vec::new();
        let extent = segment::read(file, marker, limit, &mut |offset, frame, head| {
            let octets = frame.record_octets();
            if !self.replay(number, offset, frame, head) {
                unreadable.push(offset..offset + octets);
            }
        })?;
        recovery.damaged += (extent.damaged.len() + unreadable.len()) as u64;
        let mut kept = false;
        for (ranges, suffix) in
            [(&extent.damaged[..], DAMAGED), (&unreadable[..], DAMAGED), (extent.torn.as_slice(), TORN)]
        {
            for range in ranges {
                recovery.torn_octets += if suffix == TORN { range.end - range.start } else { 0 };
                kept |= self.set_aside(number, file, range, suffix).is_err();
            }
        }
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.end = extent.end;
            segment.kept = kept;
        }
        self.previous = Some((number, extent.end));
        // A segment whose flush failed has a limit, and is not written to again.
        if !extent.sealed && limit.is_none() {
            rewrite(file, extent.end)?;
            if extent.damaged.is_empty() {
                self.seal(number, file, marker, extent.end);
            }
        }
        Ok(())
    }

    /// Applies a record that was found. `false`: it cannot be read, although its checksum is right.
    fn replay(&mut self, segment: u32, offset: u64, frame: &Frame, head: &[u8]) -> bool {
        let octets = u32::try_from(frame.record_octets()).unwrap_or(u32::MAX);
        match frame.kind {
            RecordKind::Message | RecordKind::LargeMessage => {
                let Some(message) = Head::read(head).and_then(|head| head.message(frame.id)) else { return false };
                let large = frame.kind == RecordKind::LargeMessage;
                self.insert(message, Location { segment, offset, octets, large });
            }
            RecordKind::Change => {
                let Ok(change) = serde_json::from_slice(head) else { return false };
                self.change(frame.id, &change);
            }
            RecordKind::Footer => {}
        }
        true
    }

    /// Removes files of content that belong to no message: their message was not committed, or has left the queue.
    /// With `keep` they go to `corrupt/`.
    fn remove_contents_without_message(&self, keep: bool) -> io::Result<()> {
        for name in self.storage.list(CONTENT)? {
            let Some(id) = QueueId::parse(&name) else { continue };
            if lock(&self.queue).get(id).is_none_or(|stored| !stored.place.large) {
                match keep {
                    true => self.storage.rename(&content_name(id), &format!("{CORRUPT}/{id}.content"))?,
                    false => self.storage.remove(&content_name(id))?,
                }
            }
        }
        Ok(())
    }
}

/// Writes what a segment holds once more, and flushes it. The last process may have ended after a flush failed: what it wrote can then be
/// read, and is in memory only, and another flush alone would not write it.
fn rewrite(file: &dyn StorageFile, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1024 * 1024];
    let mut at = 0;
    while at < end {
        let part = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        file.read_at(&mut buffer[..part], at)?;
        file.write_at(&buffer[..part], at)?;
        at += part as u64;
    }
    file.sync()
}
