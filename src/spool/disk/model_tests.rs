//! The log against a model of ten lines, with every operation of the disk failing or being the last one.

use super::super::queue::{Queue, SpoolLimits, lock};
use super::super::queued_message::{Change, QueuedMessage, Timestamp};
use super::super::stored_message::StoredMessage;
use super::head::Head;
use super::log::{Append, Effect, Location, SegmentLog, content_name};
use super::record::RecordKind;
use super::recovery::Recovery;
use super::simulated_disk::{Fault, SimulatedDisk};
use super::storage::{CORRUPT, Storage};
use super::{read, store_content};
use crate::mail::QueueId;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Small, so that short histories have several segments and are cleaned.
const SEGMENT_OCTETS: u64 = 2048;

#[derive(Clone, Debug)]
enum Step {
    /// The message with this number is accepted, with that much content.
    Accept(u8, u16),
    /// The same, with its content in a file of its own.
    AcceptLarge(u8, u16),
    Change(u8, Change),
    /// Two records with one flush.
    Batch(u8, u8),
    Clean,
    /// The process ends in order and starts again.
    Restart,
}

/// What the queue may hold: for each message the states that are possible. One, unless a write failed that may be on disk
/// all the same.
#[derive(Default)]
struct Model(BTreeMap<QueueId, Vec<Option<QueuedMessage>>>);

impl Model {
    fn step(
        &mut self,
        id: QueueId,
        acknowledged: bool,
        next: impl Fn(Option<&QueuedMessage>) -> Option<QueuedMessage>,
    ) {
        let states = self.0.entry(id).or_insert_with(|| vec![None]);
        let after: Vec<_> = states.iter().map(|state| next(state.as_ref())).collect();
        if acknowledged {
            states.clear();
        }
        states.extend(after);
        states.dedup();
    }
}

fn id(number: u8) -> QueueId {
    QueueId::from_numbers(0x1234_5678_9ABC_DEF0, u32::from(number))
}

fn content(number: u8, octets: u16) -> Bytes {
    let text = format!("Subject: {number}\r\n\r\n");
    let body = (0..usize::from(octets)).map(|at| b'a' + ((at + usize::from(number)) % 26) as u8);
    text.into_bytes().into_iter().chain(body).chain(*b"\r\n").collect()
}

fn stored() -> StoredMessage {
    serde_json::from_str(r#"{"reverse_path":"a@a.example","forward_paths":["b@b.example"],"rule":"app"}"#).unwrap()
}

fn ended(last: bool) -> Change {
    Change::Ended { part: 0, last, due: Timestamp::from_millis(9), result: "throttled".into() }
}

struct Machine {
    disk: SimulatedDisk,
    queue: Arc<Mutex<Queue<Location>>>,
    log: Option<SegmentLog>,
    model: Model,
    contents: BTreeMap<QueueId, Bytes>,
}

impl Machine {
    fn new() -> Self {
        let mut machine = Self {
            disk: SimulatedDisk::default(),
            queue: Arc::new(Mutex::new(Queue::new(SpoolLimits::default()))),
            log: None,
            model: Model::default(),
            contents: BTreeMap::new(),
        };
        machine.open().unwrap();
        machine
    }

    fn open(&mut self) -> Result<Recovery, ()> {
        self.queue = Arc::new(Mutex::new(Queue::new(SpoolLimits::default())));
        let (log, recovery) =
            SegmentLog::open(Arc::new(self.disk.clone()), Arc::clone(&self.queue), SEGMENT_OCTETS).map_err(|_| ())?;
        self.log = Some(log);
        Ok(recovery)
    }

    fn message(&self, number: u8, octets: u16, large: bool) -> Option<Append> {
        let (id, content) = (id(number), content(number, octets));
        let mut head = Head {
            accepted: Timestamp::from_millis(5),
            octets: content.len() as u64,
            content_checksum: None,
            state: None,
            message: stored(),
        };
        let (kind, content) = match large {
            false => (RecordKind::Message, content),
            true => {
                head.content_checksum = Some(store_content(&self.disk, id, &content).ok()?);
                (RecordKind::LargeMessage, Bytes::new())
            }
        };
        let effect = Effect::Insert(head.message(id).unwrap());
        Some(Append { id, kind, head: head.to_json().unwrap(), content, effect })
    }

    fn change(number: u8, change: &Change) -> Append {
        let head = serde_json::to_vec(change).unwrap();
        let effect = Effect::Change(change.clone());
        Append { id: id(number), kind: RecordKind::Change, head, content: Bytes::new(), effect }
    }

    fn append(&mut self, records: Vec<Append>) {
        let done = self.log.as_mut().unwrap().append(&records).is_ok();
        if done {
            // The segment of an earlier failure is closed: what failed there is gone.
            self.model.0.values_mut().for_each(|states| states.truncate(1));
        }
        for record in records {
            match record.effect {
                Effect::Insert(message) => self.model.step(record.id, done, |_| Some(message.clone())),
                Effect::Change(change) => self.model.step(record.id, done, |before| {
                    let mut message = before?.clone();
                    (!message.apply(&change)).then_some(message)
                }),
                Effect::Copy(_) => {}
            }
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Accept(number, octets) | Step::AcceptLarge(number, octets) => {
                // An id is used once.
                let used = self.contents.len();
                self.contents.entry(id(*number)).or_insert_with(|| content(*number, *octets));
                if self.contents.len() > used
                    && let Some(record) = self.message(*number, *octets, matches!(step, Step::AcceptLarge(..)))
                {
                    self.append(vec![record]);
                }
            }
            Step::Change(number, change) => self.append(vec![Self::change(*number, change)]),
            Step::Batch(one, other) => {
                let records = [*one, *other].map(|number| Self::change(number, &Change::Started { part: 0 }));
                self.append(records.into());
            }
            Step::Clean => while let Ok(true) = self.log.as_mut().unwrap().clean() {},
            Step::Restart => {
                self.log.as_mut().unwrap().close();
                if self.open().is_err() {
                    // The fault came while it was opened: the next try is made after the disk works again.
                    self.disk.restart();
                    self.open().unwrap();
                }
                self.adopt("restart");
            }
        }
    }

    /// After a start: of what was possible, what was found is so.
    fn adopt(&mut self, what: &str) {
        self.verify(what);
        for (id, states) in &mut self.model.0 {
            *states = vec![lock(&self.queue).get(*id).map(|stored| stored.message.clone())];
        }
    }

    /// Compares the queue with the model, and every message with what was accepted.
    fn verify(&self, what: &str) {
        let found: Vec<QueuedMessage> = lock(&self.queue).page(None, usize::MAX);
        for message in &found {
            let possible = self.model.0.get(&message.id);
            assert!(
                possible.is_some_and(|states| states.contains(&Some(message.clone()))),
                "{what}: {message:?} is none of {possible:?}"
            );
            let (head, octets) =
                read(&self.disk, &self.queue, message.id, true).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(octets, self.contents[&message.id], "{what}");
            assert_eq!(head.message, stored(), "{what}");
        }
        for (id, states) in &self.model.0 {
            let there = found.iter().any(|message| message.id == *id);
            assert!(there || states.contains(&None), "{what}: {id} is lost; it can be {states:?}");
        }
        let usage = lock(&self.queue).usage();
        let held = found.iter().filter(|message| message.state.held.is_some()).count() as u64;
        let octets: u64 = found.iter().map(|message| message.octets).sum();
        assert_eq!((usage.messages, usage.octets, usage.held), (found.len() as u64, octets, held), "{what}");
        assert_eq!(usage.oldest.is_some(), !found.is_empty(), "{what}");
    }
}

/// Messages that fill several segments, all kinds of changes, and cleaning that removes and copies.
fn history() -> Vec<Step> {
    let mut steps = vec![Step::Accept(1, 100), Step::AcceptLarge(2, 700), Step::Accept(3, 900)];
    steps.extend([Step::Batch(1, 3), Step::Change(1, ended(true)), Step::Change(3, ended(false))]);
    steps.extend((4..12).map(|number| Step::Accept(number, 600)));
    steps.extend([Step::Change(2, Change::Held { reason: "why".into() }), Step::Restart]);
    steps.extend((4..11).map(|number| Step::Change(number, ended(true))));
    steps.extend([Step::Clean, Step::Accept(20, 1500), Step::Clean]);
    steps.extend((21..26).flat_map(|number| [Step::Accept(number, 900), Step::Change(number, Change::Removed)]));
    steps.extend([Step::Clean, Step::Change(2, Change::Released { due: Timestamp::from_millis(3) })]);
    steps.extend([
        Step::Change(2, ended(true)),
        Step::Restart,
        Step::Clean,
        Step::Change(11, ended(true)),
        Step::Clean,
    ]);
    steps
}

#[test]
fn a_history_without_faults_is_what_the_model_says() {
    let mut machine = Machine::new();
    for step in history() {
        machine.run(&step);
        machine.verify(&format!("{step:?}"));
    }
    assert!(machine.model.0.values().all(|states| states.len() == 1), "nothing is uncertain");
    let segments = machine.disk.list("").unwrap();
    assert!(segments.len() <= 4, "cleaning removed segments: {segments:?}");
    assert!(machine.disk.list("content").unwrap().is_empty());
}

/// Every operation fails once, or is the last one before a power loss, with several outcomes of what was not flushed.
#[test]
fn what_was_acknowledged_survives_a_fault_at_any_operation() {
    let mut machine = Machine::new();
    history().iter().for_each(|step| machine.run(step));
    let operations = machine.disk.operations();
    assert!(operations > 100, "{operations}");
    for at in 1..=operations {
        for (fault, seed) in
            [(Fault::Error, 1), (Fault::Error, 2), (Fault::Stop, 3), (Fault::Stop, 4), (Fault::Stop, 5)]
        {
            let what = format!("operation {at}, {fault:?}, seed {seed}");
            let mut machine = Machine::new();
            machine.disk.fault(at, fault, seed + at * 10);
            for step in history() {
                machine.run(&step);
            }
            if fault == Fault::Error {
                machine.verify(&what);
                // The process ends, and what it could not flush can still be read.
                machine.open().unwrap();
                machine.adopt(&what);
                machine.run(&Step::Clean);
            }
            machine.disk.lose_power();
            machine.open().unwrap();
            machine.adopt(&what);
            // It works on, and a second start finds the same.
            machine.run(&Step::Accept(99, 50));
            machine.run(&Step::Clean);
            machine.run(&Step::Restart);
            machine.verify(&what);
        }
    }
}

/// A second power loss at any operation of the recovery from the first.
#[test]
fn recovery_can_be_interrupted_at_any_operation() {
    for at in (1..200).step_by(7) {
        for second in 1..30 {
            let mut machine = Machine::new();
            machine.disk.fault(at, Fault::Stop, at);
            history().iter().for_each(|step| machine.run(step));
            machine.disk.lose_power();
            machine.disk.fault(second, Fault::Stop, at * 100 + second);
            let _ = machine.open();
            machine.disk.lose_power();
            machine.open().unwrap();
            machine.verify(&format!("operation {at}, then {second}"));
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 1..12_u8;
    let step = prop_oneof![
        4 => (number.clone(), 0..1800_u16).prop_map(|(number, octets)| Step::Accept(number, octets)),
        1 => (number.clone(), 0..1800_u16).prop_map(|(number, octets)| Step::AcceptLarge(number, octets)),
        2 => number.clone().prop_map(|number| Step::Change(number, Change::Started { part: 0 })),
        3 => (number.clone(), any::<bool>()).prop_map(|(number, last)| Step::Change(number, ended(last))),
        1 => number.clone().prop_map(|number| Step::Change(number, Change::Held { reason: "why".into() })),
        1 => number.clone().prop_map(|number| Step::Change(number, Change::Released { due: Timestamp::from_millis(7) })),
        1 => (number.clone(), number).prop_map(|(one, other)| Step::Batch(one, other)),
        2 => Just(Step::Clean),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_with_a_fault_anywhere_ends_as_the_model_says(
        steps in steps(), at in 1..200_u64, stop: bool, seed: u64, power: bool
    ) {
        let mut machine = Machine::new();
        machine.disk.fault(at, if stop { Fault::Stop } else { Fault::Error }, seed);
        for step in &steps {
            machine.run(step);
        }
        if power { machine.disk.lose_power() } else { machine.disk.restart() }
        machine.open().unwrap();
        machine.adopt("after the start");
        machine.run(&Step::Accept(99, 50));
        machine.run(&Step::Clean);
        machine.disk.lose_power();
        machine.open().unwrap();
        machine.verify("after a second start");
    }
}

/// One damaged record: its neighbours are there, it is set aside, and it is not in the queue.
#[test]
fn a_damaged_record_is_set_aside_and_its_neighbours_are_kept() {
    for sealed in [false, true] {
        let mut machine = Machine::new();
        for number in 1..=3 {
            machine.run(&Step::Accept(number, 200));
        }
        let place = lock(&machine.queue).get(id(2)).unwrap().place;
        if sealed {
            machine.log.as_mut().unwrap().close();
        }
        let name = super::segment::file_name(place.segment);
        machine.disk.damage(&name, |octets| octets[place.offset as usize + 300] ^= 4);
        let recovery = machine.open().unwrap();
        let there = |machine: &Machine, number| lock(&machine.queue).get(id(number)).is_some();
        assert!(there(&machine, 1) && there(&machine, 3));
        if sealed {
            // The footer has no content: the damage is found when the message is read.
            assert!(matches!(
                read(&machine.disk, &machine.queue, id(2), true),
                Err(crate::spool::SpoolError::Damaged(_))
            ));
            machine.log.as_mut().unwrap().damaged(id(2)).unwrap();
        } else {
            assert_eq!(recovery.damaged, 1);
        }
        assert!(!there(&machine, 2));
        assert_eq!(machine.disk.list(CORRUPT).unwrap().len(), 1);
        // It is counted once, however often the spool is opened, and it stays after its segment is gone.
        assert_eq!(machine.open().unwrap().damaged, 1);
        for number in [1, 3] {
            machine.run(&Step::Change(number, Change::Removed));
        }
        machine.run(&Step::Accept(9, 1900));
        machine.run(&Step::Clean);
        assert!(!machine.disk.list("").unwrap().contains(&name));
        assert_eq!(machine.open().unwrap().damaged, 1);
    }
}

/// Content of a message that looks like a record of a message. With a mark that can be guessed it would be found behind
/// damage, and be sent without a policy having seen it.
#[test]
fn a_record_that_is_forged_in_content_is_not_found_behind_damage() {
    let mut machine = Machine::new();
    machine.run(&Step::Accept(1, 10));
    let place = lock(&machine.queue).get(id(1)).unwrap().place;
    let name = super::segment::file_name(place.segment);
    let mut forged = Vec::new();
    let head = machine.message(7, 10, false).unwrap().head;
    let guess = super::record::Marker(*b"gatepost");
    super::record::write(&mut forged, guess, RecordKind::Message, id(7), &head, b"Subject: forged\r\n\r\n\r\n");
    machine.disk.damage(&name, |octets| {
        let at = place.offset as usize + 64;
        octets[at..at + forged.len()].copy_from_slice(&forged);
    });
    let recovery = machine.open().unwrap();
    assert_eq!((recovery.messages, recovery.torn_octets > 0), (0, true));
}

/// A message of an unsealed segment whose header is damaged is found by the mark of the first record.
#[test]
fn a_damaged_header_costs_no_message() {
    let mut machine = Machine::new();
    machine.run(&Step::Accept(1, 10));
    let name = machine.disk.list("").unwrap().remove(0);
    machine.disk.damage(&name, |octets| octets[30] ^= 1);
    assert_eq!(machine.open().unwrap().messages, 1);
    machine.verify("damaged header");
}

#[test]
fn a_large_message_whose_file_is_damaged_is_set_aside_with_the_file() {
    let mut machine = Machine::new();
    machine.run(&Step::AcceptLarge(1, 500));
    machine.disk.damage(&content_name(id(1)), |octets| octets[40] ^= 1);
    machine.open().unwrap();
    assert!(matches!(read(&machine.disk, &machine.queue, id(1), true), Err(crate::spool::SpoolError::Damaged(_))));
    machine.log.as_mut().unwrap().damaged(id(1)).unwrap();
    let mut aside = machine.disk.list(CORRUPT).unwrap();
    aside.sort();
    assert_eq!(aside.len(), 2, "{aside:?}");
    assert!(lock(&machine.queue).get(id(1)).is_none());
}

/// Where damage cannot be set aside, its segment is not removed; the next start tries again.
#[test]
fn a_segment_is_kept_until_its_damage_is_set_aside() {
    let mut machine = Machine::new();
    machine.run(&Step::Accept(1, 200));
    machine.run(&Step::Accept(2, 200));
    let place = lock(&machine.queue).get(id(1)).unwrap().place;
    let name = super::segment::file_name(place.segment);
    machine.disk.damage(&name, |octets| octets[place.offset as usize + 100] ^= 4);
    machine.disk.fault(1, Fault::Error, 1);
    machine.open().unwrap();
    assert!(machine.disk.list(CORRUPT).unwrap().is_empty());
    machine.run(&Step::Change(2, Change::Removed));
    machine.run(&Step::Accept(3, 1900));
    machine.run(&Step::Clean);
    assert!(machine.disk.list("").unwrap().contains(&name));
    assert_eq!(machine.open().unwrap().damaged, 1);
    machine.run(&Step::Clean);
    assert!(!machine.disk.list("").unwrap().contains(&name));
}

/// The record of a large message is damaged, and its content is good: it was deleted with the record.
#[test]
fn the_content_of_a_message_whose_record_is_damaged_is_set_aside() {
    let mut machine = Machine::new();
    machine.run(&Step::AcceptLarge(1, 500));
    machine.run(&Step::Accept(2, 100));
    let place = lock(&machine.queue).get(id(1)).unwrap().place;
    let name = super::segment::file_name(place.segment);
    machine.disk.damage(&name, |octets| octets[place.offset as usize + 60] ^= 4);
    assert_eq!(machine.open().unwrap().damaged, 1);
    let aside = machine.disk.list(CORRUPT).unwrap();
    assert!(aside.contains(&format!("{}.content", id(1))), "{aside:?}");
    assert!(machine.disk.list("content").unwrap().is_empty());
}

/// A start that was interrupted while it set damage aside left a file that is not whole: the next one took it for done.
#[test]
fn damage_is_set_aside_whole_after_an_interruption() {
    let mut machine = Machine::new();
    machine.run(&Step::Accept(1, 200));
    machine.run(&Step::Accept(2, 200));
    let place = lock(&machine.queue).get(id(1)).unwrap().place;
    let name = super::segment::file_name(place.segment);
    machine.disk.damage(&name, |octets| octets[place.offset as usize + 100] ^= 4);
    let aside = format!("{CORRUPT}/{:010}-{:010}.1.damaged", place.segment, place.offset);
    let half = machine.disk.create(&aside, 0).unwrap();
    half.write_at(b"half", 0).unwrap();
    machine.open().unwrap();
    let whole = machine.disk.open(&aside.replace(".1.", ".2.")).unwrap();
    assert_eq!(whole.octets().unwrap(), u64::from(place.octets));
    machine.open().unwrap();
    assert_eq!(machine.disk.list(CORRUPT).unwrap().len(), 2, "once");
}
