//! What every [`Spool`] must do, as a function that a test calls with the spool it has written.
//!
//! ```
//! # use gatepost::mail::SystemClock;
//! # use gatepost::spool::{MemorySpool, SpoolLimits, conformance};
//! # use std::sync::Arc;
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! conformance::check(|limits| MemorySpool::new(limits, Arc::new(SystemClock))).await;
//! # });
//! ```
//!
//! Durability is not part of it: only a test that knows the storage can take the power away.

use super::{Change, QueuedMessage, Spool, SpoolError, SpoolLimits, StoredMessage, Timestamp};
use crate::mail::parameters::AppName;
use crate::mail::{Permitted, QueueId, SessionId};
use bytes::Bytes;
use std::sync::Arc;

/// Checks a spool. `make` returns an empty one with these limits, each time it is called.
///
/// # Panics
/// If the spool breaks a promise; the text says which.
pub async fn check<S: Spool>(make: impl Fn(SpoolLimits) -> S) {
    what_is_committed_is_loaded_as_it_was(&make(SpoolLimits::default())).await;
    what_is_not_committed_leaves_nothing(&make(SpoolLimits::default())).await;
    changes_are_seen(&make(SpoolLimits::default())).await;
    a_message_leaves_when_its_last_part_ends(&make(SpoolLimits::default())).await;
    pages_have_every_message_once(&make(SpoolLimits::default())).await;
    limits_hold(&make).await;
    many_commits_at_a_time(Arc::new(make(SpoolLimits::default()))).await;
}

/// Every field that is stored.
const WHOLE: &str = r#"{"reverse_path":"bounce@a.example","forward_paths":["x@b.example","\"y z\"@b.example"],"body":"8BITMIME",
"rule":"billing","app":"billing","permitted_by":"from = *@a.example","reverse_path_permitted":true,
"send":{"configuration_set":"set","identity_arn":"arn:aws:ses:eu-central-1:111122223333:identity/a.example",
"tags":[["ses:feedback-id-a","1"],["team","x"]],"tenant":"t","endpoint_id":"abc.def","contact_list":["list","topic"],
"feedback":{"fixed":"f@a.example"},"role":"arn:aws:iam::111122223333:role/sender"}}"#;
const SHORT: &str = r#"{"forward_paths":["x@b.example"],"rule":"all"}"#;

fn message(json: &str, body: &str) -> Permitted {
    let stored: Result<StoredMessage, _> = serde_json::from_str(json);
    let id = QueueId::of(SessionId::fresh().transaction(1));
    let content = Bytes::from(format!("From: a@a.example\r\nX: \u{fc}\r\n\r\n{body}\r\n"));
    let message = stored.ok().and_then(|stored| stored.restore(id, content).ok());
    assert!(message.is_some(), "the message of this suite is valid: {json}");
    message.unwrap_or_else(|| unreachable!())
}

fn with_recipients(count: usize) -> Permitted {
    let paths: Vec<String> = (0..count).map(|number| format!(r#""r{number}@b.example""#)).collect();
    message(&format!(r#"{{"forward_paths":[{}],"rule":"all"}}"#, paths.join(",")), "hello")
}

async fn commit(spool: &dyn Spool, message: &Permitted) -> Result<QueueId, SpoolError> {
    let octets = message.content().octets().len() as u64;
    spool.stage(message.granted().app.as_ref(), octets)?.commit(message.clone()).await
}

async fn committed(spool: &dyn Spool, message: &Permitted) -> QueueId {
    let id = commit(spool, message).await;
    assert_eq!(
        id,
        Ok(QueueId::of(message.transaction())),
        "an empty spool takes a message, and its id is that of the transaction"
    );
    QueueId::of(message.transaction())
}

fn state(spool: &dyn Spool, id: QueueId) -> QueuedMessage {
    let state = spool.get(id);
    assert!(state.is_some(), "a committed message is in the queue");
    state.unwrap_or_else(|| unreachable!())
}

async fn what_is_committed_is_loaded_as_it_was(spool: &dyn Spool) {
    for (json, body) in [(WHOLE, "hello"), (SHORT, ""), (SHORT, &"large line\r\n".repeat(200_000))] {
        let message = message(json, body);
        let id = committed(spool, &message).await;
        let loaded = spool.load(id).await;
        assert!(loaded.is_ok(), "{loaded:?}");
        let Ok(loaded) = loaded else { return };
        assert!(loaded.content().octets() == message.content().octets(), "the content is the same, octet for octet");
        assert_eq!(loaded.envelope(), message.envelope(), "the envelope is the same");
        assert_eq!(loaded.granted(), message.granted(), "the grant is the same");
        assert_eq!(loaded.transaction(), message.transaction());
        assert_eq!(spool.describe(id).await, Ok(StoredMessage::of(&message)));
        let state = state(spool, id);
        assert_eq!((state.app.as_ref(), state.parts), (message.granted().app.as_ref(), 1));
        assert_eq!(state.octets, message.content().octets().len() as u64);
        assert_eq!(state.state.due, state.accepted, "a new message is due at once");
    }
    let usage = spool.usage();
    assert_eq!((usage.messages, usage.held, usage.oldest.is_some()), (3, 0, true));
    assert_eq!(usage.apps.iter().map(|app| app.messages).sum::<u64>(), 3);
    let id = QueueId::of(SessionId::fresh().transaction(1));
    assert_eq!(spool.load(id).await.err(), Some(SpoolError::NotFound(id)));
    assert_eq!(spool.describe(id).await, Err(SpoolError::NotFound(id)));
    assert_eq!((spool.get(id), spool.change(id, Change::Removed).await), (None, Ok(false)));
}

async fn what_is_not_committed_leaves_nothing(spool: &dyn Spool) {
    let staged = spool.stage(None, 1000);
    assert!(staged.is_ok());
    assert_eq!(spool.usage().octets, 1000, "staging reserves");
    drop(staged);
    assert_eq!((spool.usage().messages, spool.usage().octets), (0, 0), "dropping releases");
}

async fn changes_are_seen(spool: &dyn Spool) {
    let id = committed(spool, &message(SHORT, "hello")).await;
    let due = Timestamp::from_millis(7);
    let changes = [
        Change::Started { part: 0 },
        Change::Ended { part: 0, last: false, due, result: "throttled".into() },
        Change::Held { reason: "why".into() },
        Change::Rescheduled { due: Timestamp::from_millis(8) },
        Change::Released { due },
    ];
    let mut expected = state(spool, id);
    for change in changes {
        assert_eq!(spool.change(id, change.clone()).await, Ok(true));
        expected.apply(&change);
        assert_eq!(state(spool, id), expected, "{change:?}");
        assert_eq!(spool.usage().held, u64::from(expected.state.held.is_some()), "{change:?}");
    }
    assert_eq!(spool.change(id, Change::Removed).await, Ok(true));
    assert_eq!((spool.get(id), spool.usage().messages, spool.usage().octets), (None, 0, 0));
}

async fn a_message_leaves_when_its_last_part_ends(spool: &dyn Spool) {
    let id = committed(spool, &with_recipients(120)).await;
    assert_eq!(state(spool, id).parts, 3);
    for part in [2, 0, 1] {
        assert!(spool.get(id).is_some(), "part {part} has not ended");
        let change = Change::Ended { part, last: true, due: Timestamp::default(), result: "sent".into() };
        assert_eq!(spool.change(id, change).await, Ok(true));
    }
    assert_eq!((spool.get(id), spool.load(id).await.err()), (None, Some(SpoolError::NotFound(id))));
}

async fn pages_have_every_message_once(spool: &dyn Spool) {
    let mut ids = Vec::new();
    for _ in 0..25 {
        ids.push(committed(spool, &message(SHORT, "hello")).await);
    }
    ids.sort();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = spool.page(after, 10);
        assert!(page.len() <= 10);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        found.extend(page.iter().map(|message| message.id));
    }
    assert_eq!(found, ids, "in the order of ids");
}

async fn limits_hold<S: Spool>(make: &impl Fn(SpoolLimits) -> S) {
    let app = AppName::parse("billing").ok();
    let full = |spool: &S, app: Option<&AppName>, octets| matches!(spool.stage(app, octets), Err(SpoolError::Full(_)));
    let limits = SpoolLimits { messages_max: 2, app_messages_max: 1, ..SpoolLimits::default() };
    let spool = make(limits);
    let id = committed(&spool, &message(WHOLE, "hello")).await;
    assert!(full(&spool, app.as_ref(), 1) && !full(&spool, None, 1), "one message of each application");
    committed(&spool, &message(SHORT, "hello")).await;
    assert!(full(&spool, AppName::parse("other").ok().as_ref(), 1), "two messages in all");
    assert_eq!(spool.change(id, Change::Removed).await, Ok(true));
    assert!(!full(&spool, app.as_ref(), 1), "a message that leaves makes room");
    let spool = make(SpoolLimits { octets_max: 1000, app_octets_max: 600, ..SpoolLimits::default() });
    let staged = spool.stage(app.as_ref(), 600);
    assert!(staged.is_ok() && full(&spool, app.as_ref(), 1) && full(&spool, None, 401) && !full(&spool, None, 400));
}

async fn many_commits_at_a_time<S: Spool>(spool: Arc<S>) {
    let commits: Vec<_> = (0..64)
        .map(|number| {
            let spool = Arc::clone(&spool);
            tokio::spawn(async move {
                let message = message(SHORT, &format!("number {number}"));
                (commit(&*spool, &message).await, message)
            })
        })
        .collect();
    for task in commits {
        let done = task.await;
        assert!(done.is_ok(), "a commit does not panic");
        let Ok((id, message)) = done else { return };
        assert!(id.is_ok(), "{id:?}");
        let Ok(id) = id else { return };
        let loaded = spool.load(id).await;
        assert!(loaded.is_ok_and(|loaded| loaded.content().octets() == message.content().octets()));
    }
}
