//! The spool in a real directory.

use super::super::queue::Queue;
use super::super::{Change, Spool, SpoolError, SpoolLimits, StoredMessage, Timestamp, conformance};
use super::head::Head;
use super::log::{Append, Effect, SegmentLog};
use super::record::RecordKind;
use super::storage::Directory;
use super::{DiskSpool, DiskSpoolSettings, OpenError, Recovery};
use crate::mail::{Clock, Permitted, QueueId, SessionId, SystemClock};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

fn settings(directory: &Path) -> DiskSpoolSettings {
    DiskSpoolSettings { free_octets_min: 0, segment_octets: 256 * 1024, ..DiskSpoolSettings::new(directory) }
}

fn open(directory: &Path) -> (DiskSpool, Recovery) {
    DiskSpool::open(&settings(directory), Arc::new(SystemClock)).unwrap()
}

fn message(body: &str) -> Permitted {
    let stored: StoredMessage = serde_json::from_str(r#"{"forward_paths":["b@b.example"],"rule":"app"}"#).unwrap();
    let content = format!("Subject: x\r\n\r\n{body}\r\n");
    stored.restore(QueueId::of(SessionId::fresh().transaction(1)), content.into()).unwrap()
}

async fn commit(spool: &DiskSpool, body: &str) -> QueueId {
    spool.stage(None, body.len() as u64).unwrap().commit(message(body)).await.unwrap()
}

#[tokio::test]
async fn it_is_a_spool() {
    let directories = std::sync::Mutex::new(Vec::new());
    conformance::check(|limits: SpoolLimits| {
        let directory = TempDir::new().unwrap();
        let settings = DiskSpoolSettings { limits, ..settings(&directory.path().join("made/if/missing")) };
        directories.lock().unwrap().push(directory);
        DiskSpool::open(&settings, Arc::new(SystemClock)).unwrap().0
    })
    .await;
}

#[tokio::test]
async fn what_is_in_the_queue_is_there_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let (spool, _) = open(directory.path());
    let large = "large line\r\n".repeat(100_000);
    let (small, large, gone) =
        (commit(&spool, "small").await, commit(&spool, &large).await, commit(&spool, &large).await);
    spool.change(small, Change::Held { reason: "why".into() }).await.unwrap();
    spool.change(gone, Change::Removed).await.unwrap();
    let before = spool.page(None, 9);
    drop(spool);
    let (spool, recovery) = open(directory.path());
    assert_eq!(recovery, Recovery { messages: 2, ..Recovery::default() });
    assert_eq!(spool.page(None, 9), before);
    assert_eq!(spool.load(large).await.unwrap().content().octets().len(), 1_200_016);
    let contents: Vec<_> = std::fs::read_dir(directory.path().join("content")).unwrap().collect();
    assert_eq!(contents.len(), 1, "the content of a message that left is removed");
}

/// The kernel flushes a file without a name without an error: what it accepted would be gone after a restart.
#[tokio::test]
async fn in_a_directory_that_was_removed_nothing_is_accepted_until_it_is_there_again() {
    let directory = TempDir::new().unwrap();
    let place = directory.path().join("spool");
    let (spool, _) = open(&place);
    commit(&spool, "before").await;
    std::fs::remove_dir_all(&place).unwrap();
    let refused = spool.stage(None, 5).map(drop);
    assert!(matches!(refused, Err(SpoolError::Unavailable(_))), "before the content is sent: {refused:?}");
    std::fs::create_dir_all(place.join("content")).unwrap();
    let lost = spool.stage(None, 5).unwrap().commit(message("to a file without a name")).await;
    assert!(matches!(lost, Err(SpoolError::Unavailable(_))), "{lost:?}");
    let id = commit(&spool, "after").await;
    drop(spool);
    let (spool, recovery) = open(&place);
    assert_eq!(recovery.messages, 1);
    assert!(spool.get(id).is_some());
}

#[tokio::test]
async fn only_its_user_can_read_it_and_only_one_process_uses_it() {
    let directory = TempDir::new().unwrap();
    let place = directory.path().join("spool");
    let (spool, _) = open(&place);
    commit(&spool, "hello").await;
    commit(&spool, &"x".repeat(2_000_000).replace("xxxxxxxxxx", "xxxxxxxx\r\n")).await;
    let mut seen = 0;
    let mut look = vec![place.clone()];
    while let Some(path) = look.pop() {
        let meta = path.metadata().unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, if meta.is_dir() { 0o700 } else { 0o600 }, "{path:?}");
        if meta.is_dir() {
            look.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        }
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
    let second = DiskSpool::open(&settings(&place), Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(second, OpenError::InUse(path) if path == place));
}

#[tokio::test]
async fn a_segment_of_a_later_format_refuses_the_start_and_a_foreign_file_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let (spool, _) = open(directory.path());
    commit(&spool, "hello").await;
    drop(spool);
    let foreign = directory.path().join("README");
    std::fs::write(&foreign, "not a segment").unwrap();
    std::fs::write(directory.path().join("0000000007.segment"), "not a segment either").unwrap();
    let (spool, recovery) = open(directory.path());
    let mut names = recovery.foreign;
    names.sort();
    assert_eq!((recovery.messages, names), (1, vec!["0000000007.segment".to_owned(), "README".to_owned()]));
    drop(spool);
    assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "not a segment");
    let segment = directory.path().join("0000000001.segment");
    let mut octets = std::fs::read(&segment).unwrap();
    octets[16] = 2;
    std::fs::write(&segment, &octets).unwrap();
    let refused = DiskSpool::open(&settings(directory.path()), Arc::new(SystemClock)).unwrap_err();
    assert!(refused.to_string().contains("0000000001.segment has format 2"), "{refused}");
    assert_eq!(std::fs::read(&segment).unwrap(), octets);
}

#[tokio::test]
async fn little_free_space_refuses_before_anything_is_written() {
    let directory = TempDir::new().unwrap();
    let settings = DiskSpoolSettings { free_octets_min: u64::MAX / 2, ..settings(directory.path()) };
    let (spool, _) = DiskSpool::open(&settings, Arc::new(SystemClock)).unwrap();
    assert!(matches!(spool.stage(None, 1), Err(SpoolError::Full(_))));
}

/// The format is kept for ever: a spool of the first version, with a sealed segment, one that was cut off, large content and a held
/// message.
#[tokio::test]
async fn a_spool_of_format_1_is_read() {
    let directory = TempDir::new().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spool-format-1");
    if std::env::var_os("GATEPOST_REFRESH").is_some() && !fixture.exists() {
        make_fixture(&fixture).await;
    }
    copy(&fixture, directory.path());
    let (spool, recovery) = open(directory.path());
    assert_eq!(recovery, Recovery { messages: 4, damaged: 0, torn_octets: 40, foreign: vec![] });
    let mut found = Vec::new();
    for message in spool.page(None, 9) {
        let loaded = spool.load(message.id).await.unwrap();
        let octets = loaded.content().octets().len();
        found.push((octets, message.app.map(|app| app.to_string()), message.state.held, message.state.attempts));
    }
    found.sort();
    let text = |text: &str| Some(text.into());
    let (app, held) = (Some("billing".to_owned()), text("sending is paused"));
    assert_eq!(found, [(21, None, None, 0), (22, None, None, 2), (23, app, held, 0), (1_200_017, None, None, 0)],);
}

/// Written by the version whose format it is, once.
async fn make_fixture(place: &Path) {
    let with = |json: &str, body: &str| {
        let stored: StoredMessage = serde_json::from_str(json).unwrap();
        let content = format!("Subject: x\r\n\r\n{body}\r\n");
        stored.restore(QueueId::of(SessionId::fresh().transaction(1)), content.into()).unwrap()
    };
    let plain = r#"{"forward_paths":["b@b.example"],"rule":"app"}"#;
    let app = r#"{"reverse_path":"a@a.example","forward_paths":["b@b.example"],"rule":"billing","app":"billing",
        "send":{"configuration_set":"set","tags":[["a","b"]],"feedback":"account"}}"#;
    {
        let (spool, _) = open(place);
        for (json, body) in [(plain, "hello".to_owned()), (plain, "hello2".to_owned()), (app, "hello33".to_owned())] {
            spool.stage(None, 9).unwrap().commit(with(json, &body)).await.unwrap();
        }
        let ids: Vec<_> = spool.page(None, 9).into_iter().map(|message| (message.octets, message.id)).collect();
        let id = |octets: u64| ids.iter().find(|(size, _)| *size == octets).unwrap().1;
        for _ in 0..2 {
            spool.change(id(22), Change::Started { part: 0 }).await.unwrap();
            let due = crate::spool::Timestamp::from_millis(1_800_000_000_000);
            let change = Change::Ended { part: 0, last: false, due, result: "throttled".into() };
            spool.change(id(22), change).await.unwrap();
        }
        spool.change(id(23), Change::Held { reason: "sending is paused".into() }).await.unwrap();
    }
    let (spool, _) = open(place);
    let large = "large line\r\n".repeat(100_000);
    spool.stage(None, 9).unwrap().commit(with(plain, &format!("{large}x"))).await.unwrap();
    let gone = spool.stage(None, 9).unwrap().commit(with(plain, "gone")).await.unwrap();
    spool.change(gone, Change::Removed).await.unwrap();
    // As after a crash: without the footer, with part of a record.
    let path = place.join("0000000002.segment");
    let mut octets = std::fs::read(&path).unwrap();
    let end = octets.iter().rposition(|octet| *octet != 0).unwrap() / 8 * 8 + 8;
    drop(spool);
    octets.truncate(end);
    octets.extend_from_slice(&[0xAA; 40]);
    octets.resize(end + 4096, 0);
    std::fs::write(&path, octets).unwrap();
}

fn copy(from: &Path, to: &Path) {
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Resident memory of this process in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Writes that many messages of 1 kB, each to a recipient of its own, a thousand with one flush.
fn fill(settings: &DiskSpoolSettings, messages: u32) {
    let storage = Arc::new(Directory::create(&settings.directory).unwrap());
    let queue = Arc::new(Mutex::new(Queue::new(settings.limits)));
    let (mut log, _) = SegmentLog::open(storage, queue, settings.segment_octets).unwrap();
    let content: bytes::Bytes = format!("Subject: x\r\n\r\n{}\r\n", "x".repeat(970)).into();
    for batch in 0..messages / 1_000 {
        let records = (0..1_000).map(|number| {
            let number = batch * 1_000 + number;
            let json = format!(
                r#"{{"reverse_path":"app@a.example","forward_paths":["user{number}@b.example"],"rule":"message","app":"app{}",
                "permitted_by":"from = *@a.example","send":{{"configuration_set":"set"}}}}"#,
                number % 10
            );
            let id = QueueId::of(SessionId::fresh().transaction(1));
            let (accepted, octets) = (Timestamp::from_millis(1), content.len() as u64);
            let message = serde_json::from_str(&json).unwrap();
            let head = Head { accepted, octets, content_checksum: None, state: None, message };
            let effect = Effect::Insert(head.message(id).unwrap());
            Append { id, kind: RecordKind::Message, head: head.to_json().unwrap(), content: content.clone(), effect }
        });
        log.append(&records.collect::<Vec<_>>()).unwrap();
    }
    log.close();
}

/// Run by `tests/long/run`: a million messages of 1 kB take 2 GiB of disk.
#[test]
#[allow(clippy::print_stdout)]
#[ignore = "minutes and gigabytes: tests/long/run"]
fn a_million_messages_open_in_seconds_and_stay_under_400_mib() {
    const MESSAGES: u32 = 1_000_000;
    let directory = TempDir::new().unwrap();
    let mut settings = settings(directory.path());
    settings.limits = SpoolLimits { messages_max: 2_000_000, app_messages_max: 2_000_000, ..SpoolLimits::default() };
    settings.segment_octets = DiskSpoolSettings::new("").segment_octets;
    fill(&settings, MESSAGES);
    let began = SystemClock.now();
    let (spool, recovery) = DiskSpool::open(&settings, Arc::new(SystemClock)).unwrap();
    let took = began.elapsed();
    // Of the whole process: what filling it took was freed, and is used again.
    let used = resident();
    println!("{MESSAGES} messages: open in {:.1} s, {used} MiB", took.as_secs_f64());
    assert_eq!(recovery.messages, u64::from(MESSAGES));
    assert!(took.as_secs() < 60, "{took:?}");
    assert!(used < 400, "{used} MiB");
    assert_eq!(spool.page(None, 10).len(), 10);
}
