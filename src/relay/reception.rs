//! A message while it is received: the trace field, the header section without the fields that must not be sent, the body.
//!
//! Content is in memory, within the budget, and moves to an unlinked file when it grows or memory is short. After a fault
//! the rest is discarded; the session still reads to the end of data, and the fault is the reply.
//! Removed: `Bcc`, `Resent-Bcc` (the envelope carries blind copies), `Return-Path` (SES would send bounces there),
//! `X-SES-*` (requests, see [`Requested`]).

use super::Relay;
use super::budget::Share;
use super::spill_file::SpillFile;
use crate::mail::headers::{HeaderError, HeaderLimits, SINGLETON_FIELDS, blank_line};
use crate::mail::mime::{MimeError, Scanner, Structure};
use crate::mail::{Content, Envelope, Field, HeaderSection, Refusal, Requested, replies};
use crate::smtp::MboxLine;
use bytes::Bytes;
use std::sync::Arc;

/// The largest SIZE= for which memory is reserved before the content arrives: a client that only announces must not take
/// much of the budget.
const ANNOUNCED_OCTETS_MAX: u64 = 256 * 1024;

/// Octets that are taken from the budget at a time.
const STEP_OCTETS: u64 = 16 * 1024;

/// Octets that the MIME scanner may hold without a share of the budget: most messages have few parts.
const SCANNER_OCTETS_FREE: u64 = 4 * 1024;

pub(super) struct Reception {
    relay: Arc<Relay>,
    pub(super) envelope: Arc<Envelope>,
    trace: String,
    mbox_line: MboxLine,
    /// Before the blank line: the header section as received. After it: the message as it will be sent.
    memory: Vec<u8>,
    shares: Vec<Share>,
    share_octets: u64,
    file: Option<(SpillFile, Vec<Share>, u64)>,
    /// `None` before the blank line.
    header: Option<Header>,
    requested: Requested,
    fault: Option<Refusal>,
}

/// What is known after the blank line.
struct Header {
    section: HeaderSection,
    /// Scans the parts of the body while it is received.
    parts: Scanner,
    /// The shares of the memory that `parts` holds.
    shares: Vec<Share>,
    share_octets: u64,
}

/// The received message.
pub(super) struct Received {
    pub(super) envelope: Arc<Envelope>,
    pub(super) content: StoredContent,
    pub(super) requested: Requested,
    pub(super) octets: u64,
    header: HeaderSection,
    structure: Arc<Structure>,
    /// The shares of the received content.
    shares: Vec<Share>,
}

pub(super) enum StoredContent {
    Memory(Bytes),
    File(SpillFile, Vec<Share>),
}

impl Reception {
    /// Reserves the first part of the budget; `None`: memory and disk are used up.
    pub(super) async fn begin(
        relay: &Arc<Relay>,
        envelope: Envelope,
        trace: String,
        mbox_line: MboxLine,
    ) -> Option<Self> {
        let mut reception = Self {
            relay: Arc::clone(relay),
            envelope: Arc::new(envelope),
            trace,
            mbox_line,
            memory: Vec::new(),
            shares: Vec::new(),
            share_octets: 0,
            file: None,
            header: None,
            requested: Requested::default(),
            fault: None,
        };
        (reception.grow(1) || relay.budget.store(STEP_OCTETS).is_some()).then_some(reception)
    }

    /// Takes the next octets. A fault is reported at the end.
    pub(super) async fn write(&mut self, octets: &Bytes) {
        if self.fault.is_some() {
            return;
        }
        if let Err(fault) = self.try_write(octets).await {
            self.drop_content();
            self.fault = Some(fault);
        }
    }

    async fn try_write(&mut self, octets: &Bytes) -> Result<(), Refusal> {
        if self.header.is_some() {
            return self.keep(octets).await;
        }
        // The header section usually arrives in one piece and is parsed in place.
        if self.memory.is_empty()
            && let Some(end) = blank_line(octets, 0)
        {
            return self.take_header_and_keep(octets, end).await;
        }
        let limits = &self.relay.settings.header;
        let before = self.memory.len();
        self.memory.extend_from_slice(octets);
        match blank_line(&self.memory, before) {
            Some(end) => {
                let raw = std::mem::take(&mut self.memory);
                self.take_header_and_keep(&raw, end).await
            }
            None if self.memory.len() > limits.octets_max => Err(header_fault(HeaderError::TooLarge)),
            // A header section must be in one piece of memory. Its first step needs no share: like the read buffer, it is
            // part of what a connection costs, so a message can still go to disk when memory is used up.
            None if self.memory.len() as u64 <= STEP_OCTETS || self.grow(self.memory.len() as u64) => Ok(()),
            None => Err(no_room()),
        }
    }

    /// Takes the header section, which ends at `end`, and the body after its blank line.
    async fn take_header_and_keep(&mut self, raw: &[u8], end: usize) -> Result<(), Refusal> {
        self.take_header(&raw[..end])?;
        self.memory.extend_from_slice(b"\r\n");
        self.keep(&raw[end + 2..]).await
    }

    /// Parses the complete header section, puts the trace field on top, and removes the fields that must not be sent.
    fn take_header(&mut self, raw: &[u8]) -> Result<(), Refusal> {
        let limits = &self.relay.settings.header;
        let raw = match self.mbox_line {
            MboxLine::Drop if raw.starts_with(b"From ") => {
                &raw[memchr::memchr(b'\n', raw).map_or(raw.len(), |end| end + 1)..]
            }
            MboxLine::Drop | MboxLine::Refuse => raw,
        };
        let section = HeaderSection::parse(raw, limits).map_err(header_fault)?;
        if let Some(name) = repeated_field(&section, raw) {
            let reply = replies::DUPLICATE_FIELD.with_text(&format!("Duplicate header field: {name}"));
            return Err(Refusal::new(reply, format!("{name} occurs more than once")));
        }
        let mut kept = Vec::with_capacity(self.trace.len() + raw.len() + 2 + self.reserve_announced());
        kept.extend_from_slice(self.trace.as_bytes());
        let trace = HeaderSection::parse(&kept, &HeaderLimits::default()).map_err(header_fault)?;
        let requested = &mut self.requested;
        let section = section.copy_kept(raw, &trace, &mut kept, |field| {
            let request = Requested::is_request(field.name);
            if request {
                requested.push(field.name, field.value);
            }
            !request && !is_removed(field)
        });
        let fields = section.fields(&kept).map(|field| (field.name, field.value));
        let parts = Scanner::new(self.relay.settings.mime, fields).map_err(mime_fault)?;
        self.memory = kept;
        self.header = Some(Header { section, parts, shares: Vec::new(), share_octets: SCANNER_OCTETS_FREE });
        Ok(())
    }

    /// The announced octets, if they are few and within the budget: then the buffer need not grow. 0 otherwise.
    fn reserve_announced(&mut self) -> usize {
        let octets = self.declared();
        match octets <= ANNOUNCED_OCTETS_MAX && self.grow(octets) {
            true => usize::try_from(octets).unwrap_or_default(),
            false => 0,
        }
    }

    /// Scans the next octets of the body for MIME parts.
    fn scan(&mut self, octets: &[u8]) -> Result<(), Refusal> {
        let Some(header) = &mut self.header else { return Ok(()) };
        header.parts.feed(octets).map_err(mime_fault)?;
        while header.share_octets < header.parts.octets_held() {
            header.shares.push(self.relay.budget.receive(STEP_OCTETS).ok_or_else(no_room)?);
            header.share_octets += STEP_OCTETS;
        }
        Ok(())
    }

    async fn keep(&mut self, octets: &[u8]) -> Result<(), Refusal> {
        self.scan(octets)?;
        if self.file.is_none() {
            // If the announced size is too large for memory, the content moves to disk early, but not before some of it
            // has arrived: an announcement alone must not open a file.
            let total = (self.memory.len() + octets.len()) as u64;
            let most = self.relay.budget.message_in_memory_octets_max;
            let most = if self.declared() > most { most.min(ANNOUNCED_OCTETS_MAX) } else { most };
            if total <= most && self.grow(total) {
                self.make_room(octets.len());
                self.memory.extend_from_slice(octets);
                return Ok(());
            }
            let file = SpillFile::create(self.relay.budget.directory.as_deref()).await.map_err(disk_fault)?;
            if self.relay.budget.is_short_of_descriptors(file.descriptor()) {
                return Err(disk_fault(std::io::Error::other("few file descriptors are left")));
            }
            self.file = Some((file, Vec::new(), 0));
            let memory = std::mem::take(&mut self.memory);
            self.spill(&memory).await?;
            // The file's buffer of one piece is part of what a connection costs, and needs no share.
            self.shares.clear();
            self.share_octets = 0;
        }
        Box::pin(self.spill(octets)).await
    }

    /// Reserves the announced size in a full buffer once a quarter of it has arrived, so that the rest is not copied while
    /// the buffer grows.
    fn make_room(&mut self, more: usize) {
        let held = self.memory.len();
        // The announced size does not include the trace field.
        let total = self.declared().saturating_add(self.trace.len() as u64);
        let total = total.min(self.relay.budget.message_in_memory_octets_max);
        let full = held + more > self.memory.capacity();
        if full && total > (held + more) as u64 && total / 4 <= held as u64 && self.grow(total) {
            self.memory.reserve_exact(usize::try_from(total).unwrap_or(held) - held);
        }
    }

    /// The octets of the client's SIZE=; 0 without it.
    fn declared(&self) -> u64 {
        self.envelope.parameters().declared_octets.unwrap_or_default()
    }

    async fn spill(&mut self, octets: &[u8]) -> Result<(), Refusal> {
        let Some((file, shares, share_octets)) = &mut self.file else { return Err(no_room()) };
        while *share_octets < file.octets() + octets.len() as u64 {
            let step = 64 * STEP_OCTETS;
            shares.push(self.relay.budget.store(step).ok_or_else(no_room)?);
            *share_octets += step;
        }
        file.append(octets).await.map_err(disk_fault)
    }

    /// Reserves memory for this many octets in total. False: the budget is used up.
    fn grow(&mut self, total: u64) -> bool {
        while self.share_octets < total {
            // Doubling, as the vector grows.
            let step = STEP_OCTETS.max(self.share_octets);
            let Some(share) = self.relay.budget.receive(step) else { return false };
            self.shares.push(share);
            self.share_octets += step;
        }
        true
    }

    /// The octets that are stored so far.
    pub(super) fn octets(&self) -> u64 {
        self.file.as_ref().map_or(self.memory.len() as u64, |(file, ..)| file.octets())
    }

    fn drop_content(&mut self) {
        self.memory = Vec::new();
        self.shares.clear();
        self.file = None;
        self.header = None;
    }

    /// Ends the content. Returns the message, or the first fault.
    pub(super) async fn end(mut self) -> Result<Received, Refusal> {
        if self.fault.is_none() && self.header.is_none() {
            // No blank line: a message of header fields only. RFC 5322 §2.1 allows it, but SES needs the line.
            self.write(&Bytes::from_static(b"\r\n")).await;
        }
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let Some(Header { section: header, parts, shares: scanner_shares, .. }) = self.header else {
            return Err(header_fault(HeaderError::Malformed { line: 1 }));
        };
        let structure = Arc::new(parts.end().map_err(mime_fault)?);
        self.shares.extend(scanner_shares);
        let (content, octets) = match self.file {
            Some((file, shares, _)) => {
                let octets = file.octets();
                (StoredContent::File(file, shares), octets)
            }
            None => {
                let octets = self.memory.len() as u64;
                (StoredContent::Memory(Bytes::from(self.memory)), octets)
            }
        };
        let (envelope, requested, shares) = (self.envelope, self.requested, self.shares);
        Ok(Received { envelope, content, requested, octets, header, structure, shares })
    }
}

/// A message whose octets are all in memory.
pub(super) struct BufferedMessage {
    pub(super) envelope: Arc<Envelope>,
    pub(super) content: Content,
    pub(super) requested: Requested,
}

impl Received {
    /// Reads content on disk back into memory, for which the caller holds a share for sending. Returns also the shares of
    /// the received octets, which the caller must hold as long as the message.
    pub(super) async fn load(self) -> Result<(BufferedMessage, Vec<Share>), Refusal> {
        let octets = match self.content {
            StoredContent::Memory(octets) => octets,
            StoredContent::File(file, _shares) => file.into_octets().await.map_err(disk_fault)?,
        };
        let content = Content::new(octets, self.header, self.structure);
        Ok((BufferedMessage { envelope: self.envelope, content, requested: self.requested }, self.shares))
    }
}

fn is_removed(field: &Field<'_>) -> bool {
    field.is("Bcc") || field.is("Resent-Bcc") || field.is("Return-Path")
}

/// The first field that occurs twice and may occur once only. `From` has its own reply.
fn repeated_field(section: &HeaderSection, raw: &[u8]) -> Option<&'static str> {
    let mut seen = [false; SINGLETON_FIELDS.len()];
    for field in section.fields(raw) {
        if let Some(place) = SINGLETON_FIELDS.iter().position(|name| field.is(name))
            && std::mem::replace(&mut seen[place], true)
        {
            return Some(SINGLETON_FIELDS[place]);
        }
    }
    None
}

fn header_fault(error: HeaderError) -> Refusal {
    let reply = match error {
        HeaderError::TooLarge => replies::HEADER_TOO_LARGE,
        HeaderError::TooManyFields => replies::HEADER_TOO_LARGE.with_cause("too many fields"),
        HeaderError::TooManyHops => replies::TOO_MANY_HOPS,
        HeaderError::Malformed { .. } | HeaderError::Control { .. } => replies::MALFORMED_HEADER.with_cause(error),
    };
    Refusal::new(reply, error.to_string())
}

fn mime_fault(error: MimeError) -> Refusal {
    let detail = error.to_string();
    Refusal::new(replies::MIME_OVER_LIMIT.with_text(&detail), detail)
}

fn no_room() -> Refusal {
    Refusal::new(replies::INSUFFICIENT_STORAGE, "memory budget and disk allowance are used up")
}

fn disk_fault(error: std::io::Error) -> Refusal {
    Refusal::new(replies::INSUFFICIENT_STORAGE, format!("temporary file: {error}"))
}
