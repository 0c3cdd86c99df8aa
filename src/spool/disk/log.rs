//! The log of a spool: segments in order, appended to at the end, cleaned at the front.
//!
//! # Rules
//! - A record counts once its flush succeeded. Only then is it in the queue in memory, and is its caller answered.
//! - After a failed write or flush nothing more is written to that segment. The next one says where its records end.
//! - A segment is removed when it is the first one and none of its messages is in the queue, and before the next removal this one is
//!   durable. So every change of a message is at least as long on disk as the message: an ended message cannot come back.
//! - When less than half of what is on disk is in the queue, the messages of the first segment are copied to the end, with their
//!   state, until that segment is empty.

use super::super::queue::{Queue, Stored, lock};
use super::super::queued_message::{Change, QueueState, QueuedMessage};
use super::head::Head;
use super::record::{FRAME_OCTETS, Frame, Marker, RecordKind, record_octets, write};
use super::segment::{self, HEADER_OCTETS, Header};
use super::storage::{CONTENT, CORRUPT, Storage, StorageFile};
use crate::mail::QueueId;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u32,
    pub(super) offset: u64,
    /// Of the record.
    pub(super) octets: u32,
    /// Whether the content is in a file of its own.
    pub(super) large: bool,
}

/// A record to append, and what it means for the queue.
pub(super) struct Append {
    pub(super) id: QueueId,
    pub(super) kind: RecordKind,
    pub(super) head: Vec<u8>,
    pub(super) content: Bytes,
    pub(super) effect: Effect,
}

/// What a record means for the queue.
pub(super) enum Effect {
    /// A new message.
    Insert(QueuedMessage),
    /// A change of a message.
    Change(Change),
    /// A copy of a message that was here.
    Copy(Location),
}

impl Append {
    pub(super) fn octets(&self) -> u64 {
        record_octets(self.head.len(), self.content.len())
    }
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Segment {
    /// Of the file.
    pub(super) octets: u64,
    pub(super) marker: Option<Marker>,
    /// Where its records end.
    pub(super) end: u64,
    /// Messages in the queue.
    pub(super) messages: u64,
    /// Octets of their records.
    pub(super) live_octets: u64,
    /// It holds damage that could not be set aside, so it is not removed.
    pub(super) kept: bool,
}

/// The segment that is appended to.
struct Active {
    number: u32,
    marker: Marker,
    file: Arc<dyn StorageFile>,
    end: u64,
}

/// The log. One thread owns it; the queue is shared with readers.
pub(super) struct SegmentLog {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) queue: Arc<Mutex<Queue<Location>>>,
    segment_octets: u64,
    pub(super) segments: BTreeMap<u32, Segment>,
    active: Option<Active>,
    /// The next segment. A number is used once, also if its file could not be created.
    pub(super) next: u32,
    /// The last segment with records, and where they end.
    pub(super) previous: Option<(u32, u64)>,
    /// Messages of the first segment that are to be copied.
    to_copy: VecDeque<(QueueId, Location)>,
    buffer: Vec<u8>,
    markers: RandomState,
}

/// Files in `corrupt/` for one place of a segment.
const COPIES_MAX: u32 = 100;

/// What is copied in one step, so that new messages do not wait for long.
const COPY_OCTETS: u64 = 1024 * 1024;

impl SegmentLog {
    /// A log without segments.
    pub(super) fn new(storage: Arc<dyn Storage>, queue: Arc<Mutex<Queue<Location>>>, segment_octets: u64) -> Self {
        Self {
            storage,
            queue,
            segment_octets,
            segments: BTreeMap::new(),
            active: None,
            next: 1,
            previous: None,
            to_copy: VecDeque::new(),
            buffer: Vec::new(),
            markers: RandomState::new(),
        }
    }

    /// Appends records and makes them durable, all or none. For each: whether its message was there.
    pub(super) fn append(&mut self, records: &[Append]) -> io::Result<Vec<bool>> {
        let octets = records.iter().map(Append::octets).sum();
        let active = self.room(octets)?;
        let (number, marker, start) = (active.number, active.marker, active.end);
        let file = Arc::clone(&active.file);
        self.buffer.clear();
        let mut offsets = Vec::with_capacity(records.len());
        for record in records {
            offsets.push(start + self.buffer.len() as u64);
            write(&mut self.buffer, marker, record.kind, record.id, &record.head, &record.content);
        }
        if let Err(error) = file.write_at(&self.buffer, start).and_then(|()| file.sync()) {
            // Part of it may be on disk, and a second flush could claim that all of it is.
            self.active = None;
            return Err(error);
        }
        let end = start + self.buffer.len() as u64;
        if let Some(active) = &mut self.active {
            active.end = end;
        }
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.end = end;
            segment.octets = segment.octets.max(end);
        }
        self.previous = Some((number, end));
        let mut found = Vec::with_capacity(records.len());
        for (record, offset) in records.iter().zip(offsets) {
            let octets = u32::try_from(record.octets()).unwrap_or(u32::MAX);
            let large = record.kind == RecordKind::LargeMessage;
            let location = Location { segment: number, offset, octets, large };
            found.push(match &record.effect {
                Effect::Insert(message) => {
                    self.insert(message.clone(), location);
                    true
                }
                Effect::Change(change) => self.change(record.id, change),
                Effect::Copy(from) => {
                    self.relocate(record.id, *from, location);
                    true
                }
            });
        }
        Ok(found)
    }

    pub(super) fn insert(&mut self, message: QueuedMessage, location: Location) {
        let before = lock(&self.queue).insert(message, location);
        if let Some(before) = before {
            self.leave(before);
        }
        self.arrive(location);
    }

    pub(super) fn change(&mut self, id: QueueId, change: &Change) -> bool {
        let Some(left) = lock(&self.queue).apply(id, change) else { return false };
        if let Some(Stored { place, .. }) = left {
            self.leave(place);
            if place.large {
                // What is left is removed at the next start.
                let _ = self.storage.remove(&content_name(id));
            }
        }
        true
    }

    fn relocate(&mut self, id: QueueId, from: Location, to: Location) {
        let moved = lock(&self.queue).relocate(id, from, to);
        if moved {
            self.leave(from);
            self.arrive(to);
        }
    }

    fn arrive(&mut self, location: Location) {
        if let Some(segment) = self.segments.get_mut(&location.segment) {
            segment.messages += 1;
            segment.live_octets += u64::from(location.octets);
        }
    }

    fn leave(&mut self, location: Location) {
        if let Some(segment) = self.segments.get_mut(&location.segment) {
            segment.messages = segment.messages.saturating_sub(1);
            segment.live_octets = segment.live_octets.saturating_sub(u64::from(location.octets));
        }
    }

    /// The active segment, with space for that many octets.
    fn room(&mut self, octets: u64) -> io::Result<&mut Active> {
        let full = |active: &Active| active.end > HEADER_OCTETS && active.end + octets > self.segment_octets;
        if let Some(active) = self.active.take_if(|active| full(active)) {
            self.seal(active.number, &*active.file, active.marker, active.end);
        }
        if self.active.is_none() {
            self.active = Some(self.create()?);
        }
        self.active.as_mut().ok_or_else(|| io::Error::other("no segment"))
    }

    fn create(&mut self) -> io::Result<Active> {
        let number = self.next;
        self.next = number.checked_add(1).ok_or_else(|| io::Error::other("no more segment numbers"))?;
        let name = segment::file_name(number);
        let marker = Marker(self.markers.hash_one((number, self.previous)).to_le_bytes());
        let file = self.storage.create(&name, self.segment_octets)?;
        let header = Header { number, marker, previous: self.previous };
        let made = file
            .write_at(&header.to_octets(), 0)
            .and_then(|()| file.sync())
            .and_then(|()| self.storage.sync_name(&name));
        if let Err(error) = made {
            let _ = self.storage.remove(&name);
            return Err(error);
        }
        let segment =
            Segment { octets: self.segment_octets, marker: Some(marker), end: HEADER_OCTETS, ..Segment::default() };
        self.segments.insert(number, segment);
        // Also if no record follows: where the first flush fails, nothing of it counts.
        self.previous = Some((number, HEADER_OCTETS));
        Ok(Active { number, marker, file, end: HEADER_OCTETS })
    }

    /// Writes the footer. Without it a start reads the whole segment, which is slower, and as good.
    pub(super) fn seal(&mut self, number: u32, file: &dyn StorageFile, marker: Marker, end: u64) {
        if let (Ok(octets), Some(segment)) = (segment::seal(file, marker, end), self.segments.get_mut(&number)) {
            segment.octets = octets;
        }
    }

    /// One step of cleaning: removes the first segment, or copies some of its messages. Returns whether there is more to do.
    pub(super) fn clean(&mut self) -> io::Result<bool> {
        let Some((&number, first)) = self.segments.first_key_value() else { return Ok(false) };
        if self.active.as_ref().is_some_and(|active| active.number == number) || first.kept {
            return Ok(false);
        }
        if first.messages == 0 {
            let name = segment::file_name(number);
            match self.storage.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.storage.sync_name(&name)?;
            self.segments.remove(&number);
            self.to_copy.clear();
            return Ok(true);
        }
        let total: u64 = self.segments.values().map(|segment| segment.octets).sum();
        let live: u64 = self.segments.values().map(|segment| segment.live_octets).sum();
        if total <= 2 * live + 2 * self.segment_octets {
            return Ok(false);
        }
        self.copy(number)
    }

    /// Copies some messages of a segment to the end. `false`: there were none to copy.
    fn copy(&mut self, number: u32) -> io::Result<bool> {
        let Some(Segment { marker: Some(marker), end, .. }) = self.segments.get(&number).copied() else {
            return Ok(false);
        };
        let file = self.storage.open(&segment::file_name(number))?;
        if self.to_copy.is_empty() {
            let (queue, to_copy) = (&self.queue, &mut self.to_copy);
            segment::read(&*file, marker, Some(end), &mut |offset, frame, _| {
                let location = lock(queue).get(frame.id).map(|stored| stored.place);
                to_copy.extend(
                    location
                        .filter(|place| place.segment == number && place.offset == offset)
                        .map(|place| (frame.id, place)),
                );
            })?;
        }
        let listed = !self.to_copy.is_empty();
        if let (false, Some(segment)) = (listed, self.segments.get_mut(&number)) {
            // Its records cannot be found: it is for an operator, and looked at again at the next start.
            segment.kept = true;
        }
        let (mut records, mut octets) = (Vec::new(), 0);
        while octets < COPY_OCTETS {
            let Some((id, from)) = self.to_copy.pop_front() else { break };
            // It may have left the queue meanwhile.
            let state = lock(&self.queue)
                .get(id)
                .filter(|stored| stored.place == from)
                .map(|stored| stored.message.state.clone());
            let Some(state) = state else { continue };
            match read_record(&*file, marker, from)?.and_then(|record| record.copy(state)) {
                Some((head, content)) => {
                    let kind = if from.large { RecordKind::LargeMessage } else { RecordKind::Message };
                    let record = Append { id, kind, head, content, effect: Effect::Copy(from) };
                    octets += record.octets();
                    records.push(record);
                }
                None => {
                    self.damaged(id)?;
                }
            }
        }
        if !records.is_empty() {
            self.append(&records)?;
        }
        Ok(listed)
    }

    /// Takes a message out of the queue whose record cannot be read, and sets the record aside.
    pub(super) fn damaged(&mut self, id: QueueId) -> io::Result<()> {
        let Some(place) = lock(&self.queue).get(id).map(|stored| stored.place) else { return Ok(()) };
        let file = self.storage.open(&segment::file_name(place.segment))?;
        self.set_aside(place.segment, &*file, &(place.offset..place.offset + u64::from(place.octets)), DAMAGED)?;
        if place.large {
            match self.storage.rename(&content_name(id), &format!("{CORRUPT}/{id}.content")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let head = serde_json::to_vec(&Change::Removed).map_err(io::Error::other)?;
        let effect = Effect::Change(Change::Removed);
        self.append(&[Append { id, kind: RecordKind::Change, head, content: Bytes::new(), effect }]).map(drop)
    }

    /// Copies a part of a segment to `corrupt/`.
    pub(super) fn set_aside(
        &self,
        number: u32,
        file: &dyn StorageFile,
        range: &Range<u64>,
        suffix: &str,
    ) -> io::Result<()> {
        let mut octets = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
        file.read_at(&mut octets, range.start)?;
        for copy in 1..=COPIES_MAX {
            let name = format!("{CORRUPT}/{number:010}-{:010}.{copy}{suffix}", range.start);
            let aside = match self.storage.create(&name, 0) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let there = self.storage.open(&name)?;
                    let mut before = vec![0; usize::try_from(there.octets()?).map_err(io::Error::other)?];
                    there.read_at(&mut before, 0)?;
                    // An earlier start did it. If it was interrupted, or set something else aside, this one has another name.
                    if before == octets {
                        return Ok(());
                    }
                    continue;
                }
                other => other?,
            };
            aside.write_at(&octets, 0)?;
            aside.sync()?;
            return self.storage.sync_name(&name);
        }
        Err(io::Error::other("corrupt/ has too many copies of this place"))
    }

    /// Seals the segment that is appended to: the next start reads its footer.
    pub(super) fn close(&mut self) {
        if let Some(active) = self.active.take() {
            self.seal(active.number, &*active.file, active.marker, active.end);
        }
    }
}

/// The end of the names of damaged records.
pub(super) const DAMAGED: &str = ".damaged";
/// The end of the names of interrupted writes.
pub(super) const TORN: &str = ".torn";

/// The name of the file with the content of a large message.
pub(super) fn content_name(id: QueueId) -> String {
    format!("{CONTENT}/{id}")
}

/// A record that was read from its segment.
pub(super) struct ReadRecord {
    frame: Frame,
    octets: Bytes,
}

/// Reads the record of a message. `None`: it is damaged.
pub(super) fn read_record(file: &dyn StorageFile, marker: Marker, place: Location) -> io::Result<Option<ReadRecord>> {
    let mut octets = vec![0; place.octets as usize];
    file.read_at(&mut octets, place.offset)?;
    let frame = Frame::read(&octets, marker).filter(|frame| frame.is_whole(&octets));
    Ok(frame.map(|frame| ReadRecord { frame, octets: octets.into() }))
}

impl ReadRecord {
    pub(super) fn head(&self) -> &[u8] {
        &self.octets[FRAME_OCTETS..FRAME_OCTETS + self.frame.head_octets as usize]
    }

    pub(super) fn content(&self) -> Bytes {
        let start = FRAME_OCTETS + self.frame.head_octets as usize;
        self.octets.slice(start..FRAME_OCTETS + self.frame.octets as usize)
    }

    /// Head and content of a copy with that state.
    fn copy(&self, state: QueueState) -> Option<(Vec<u8>, Bytes)> {
        let head = Head { state: Some(state), ..Head::read(self.head())? };
        Some((head.to_json()?, self.content()))
    }
}
