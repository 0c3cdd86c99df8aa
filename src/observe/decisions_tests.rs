//! The list of decisions: what it keeps, what is found in it, and its bounds.

use super::*;
use crate::mail::{
    Author, Client, ClientAddress, ForwardPath, ManualClock, MessageId, Outcome, Reply, SessionId, replies,
};
use crate::observe::{AttemptRecord, MessageRecord};
use std::time::Duration;

fn client(app: Option<&str>) -> Client {
    let address = ClientAddress::Ip("192.0.2.1:4711".parse().unwrap());
    let app = app.map(|app| AppName::parse(app).unwrap());
    Client { app, ..Client::new(SessionId::fresh(), address, "plain".into()) }
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn paths(count: usize) -> Vec<ForwardPath> {
    (0..count).map(|number| ForwardPath::new(mailbox(&format!("to{number}@b.example"))).unwrap()).collect()
}

fn decisions(max: usize) -> (Decisions, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    (Decisions::new(max, Arc::clone(&clock) as Arc<dyn Clock>), clock)
}

fn message(decisions: &Decisions, client: &Client, to: &[ForwardPath], outcome: Option<&Outcome>, reply: &Reply) {
    let path = ReversePath::Mailbox(mailbox("ann@a.example"));
    decisions.observe(&Event::MessageEnded(&MessageRecord {
        transaction: client.session.transaction(1),
        client,
        reverse_path: &path,
        authors: &[Author { mailbox: mailbox("boss@a.example"), display_name: None, domain_as_written: None }],
        forward_paths: to,
        message_id: Some("<1@a.example>"),
        octets: 1_000,
        rule: Some("message"),
        permitted_by: Some("*@a.example"),
        app: client.app_name(),
        configuration_set: None,
        outcome,
        reply,
        detail: "",
        latency: Duration::ZERO,
        attempt: None,
    }));
}

fn refused(decisions: &Decisions, client: &Client, address: &str, rule: &str, detail: &str) {
    decisions.observe(&Event::CommandRefused {
        client,
        transaction: None,
        verb: "MAIL",
        reply: &replies::SENDER_NOT_PERMITTED,
        rule: Some(rule),
        address: Some(&mailbox(address)),
        detail,
    });
}

fn found(decisions: &Decisions, change: impl FnOnce(&mut DecisionQuery)) -> Vec<Arc<Decision>> {
    let mut query = DecisionQuery { limit: 100, ..DecisionQuery::default() };
    change(&mut query);
    decisions.search(&query).decisions
}

#[test]
fn a_decision_is_found_by_each_of_its_facts() {
    let (decisions, clock) = decisions(100);
    let shop = client(Some("shop"));
    refused(&decisions, &shop, "eve@c.example", "reverse_path", "it fits no pattern");
    clock.advance(Duration::from_secs(10));
    let sent = Outcome::sent(MessageId::new("ses-1").unwrap());
    message(&decisions, &shop, &paths(2), Some(&sent), &sent.reply);
    let transaction = shop.session.transaction(1).to_string();
    let now = decisions.now();
    for (what, change, want) in [
        ("all", (|_| {}) as fn(&mut DecisionQuery), 2),
        ("reverse-path", |it| it.address = Some("ANN@a.example".to_owned()), 1),
        ("author", |it| it.address = Some("boss@a.example".to_owned()), 1),
        ("recipient", |it| it.address = Some("to1@B.example".to_owned()), 1),
        ("refused address", |it| it.address = Some("eve@c.example".to_owned()), 1),
        ("domain", |it| it.address = Some("@b.example".to_owned()), 1),
        ("no address", |it| it.address = Some("b.example".to_owned()), 0),
        ("Message-ID", |it| it.message_id = Some("1@a.example".to_owned()), 1),
        ("id of SES", |it| it.message_id = Some("ses-1".to_owned()), 1),
        ("rule", |it| it.rule = Some("reverse_path".to_owned()), 1),
        ("app", |it| it.app = Some("shop".to_owned()), 2),
        ("another app", |it| it.app = Some("news".to_owned()), 0),
        ("result", |it| it.result = Some(DecisionResult::Rejected), 1),
        ("both", |it| (it.rule, it.result) = (Some("message".to_owned()), Some(DecisionResult::Rejected)), 0),
    ] {
        assert_eq!(found(&decisions, change).len(), want, "{what}");
    }
    assert_eq!(found(&decisions, |it| it.since = Some(now)).len(), 1);
    assert_eq!(found(&decisions, |it| it.reference = Some(transaction.clone())).len(), 1);
    assert_eq!(found(&decisions, |it| it.reference = Some(shop.session.to_string())).len(), 2);
    let accepted = &found(&decisions, |it| it.reference = Some(transaction))[0];
    assert_eq!((accepted.result, &*accepted.sent[0].id), (DecisionResult::Accepted, "ses-1"));
}

#[test]
fn pages_follow_each_other_from_the_latest_to_the_oldest() {
    let (decisions, _) = decisions(5_000);
    let (shop, unknown) = (client(Some("shop")), client(None));
    for number in 0..1_600 {
        // In turn in both lists, and the list of the others keeps a tenth.
        refused(&decisions, if number % 4 == 0 { &unknown } else { &shop }, "eve@c.example", "r", "");
    }
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = decisions.search(&DecisionQuery { limit: 200, before, ..DecisionQuery::default() });
        assert!(page.decisions.len() <= 200);
        seen.extend(page.decisions.iter().map(|decision| decision.sequence));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let want: Vec<u64> = (1..=1_600).rev().collect();
    assert_eq!(seen, want);
}

#[test]
fn the_list_is_bounded_in_number_and_in_octets() {
    let (decisions, _) = decisions(100);
    let (shop, unknown) = (client(Some("shop")), client(None));
    for number in 0..150 {
        refused(&decisions, &shop, "eve@c.example", &format!("rule-{number}"), "");
    }
    // A scan does not push out what is known.
    for _ in 0..1_000 {
        decisions.observe(&Event::ConnectionRefused {
            address: unknown.address,
            listener: "plain",
            reply: None,
            reason: "TLS handshake failed",
        });
        refused(&decisions, &unknown, "x@y.example", "no_app", "");
    }
    let all = found(&decisions, |it| it.limit = 1_000);
    let known: Vec<_> = all.iter().filter(|decision| decision.app.is_some()).collect();
    assert_eq!((all.len(), known.len()), (110, 100));
    assert_eq!(known[99].rule.as_deref(), Some("rule-50"));
    // Large ones push out more than one.
    let many = paths(1_000);
    for _ in 0..100 {
        let client = client(Some("shop"));
        let text = "é".repeat(10_000);
        let outcome = Outcome::not_sent(crate::mail::OutcomeKind::Refused, replies::REFUSED_BY_PROVIDER, text);
        message(&decisions, &client, &many, Some(&outcome), &replies::REFUSED_BY_PROVIDER);
    }
    let state = decisions.state();
    assert!(state.known.octets <= 100 * OCTETS_EACH && state.known.records.len() < 60, "{}", state.known.octets);
    let held: usize = state.known.records.iter().map(|decision| decision.octets_held()).sum();
    assert_eq!(held, state.known.octets);
    let last = state.known.records.back().unwrap();
    assert_eq!((last.recipients.len(), last.recipient_count, last.detail.len()), (20, 1_000, 500));
    drop(state);
    let (none, _) = self::decisions(0);
    refused(&none, &shop, "eve@c.example", "r", "");
    assert!(found(&none, |_| {}).is_empty());
    assert_eq!(none.counts("shop").hour.commands_refused, 1);
}

#[test]
fn an_ordinary_message_takes_no_more_than_its_place() {
    let (decisions, _) = decisions(100);
    let id = "0100018f2b3c4d5e-6f708192-a3b4-c5d6-e7f8-091a2b3c4d5e-000000";
    let sent = Outcome::sent(MessageId::new(id).unwrap());
    let mut largest = 0;
    for _ in 0..100 {
        let client = client(Some("billing-production"));
        message(&decisions, &client, &paths(3), Some(&sent), &sent.reply);
        largest = largest.max(decisions.state().known.records.back().unwrap().octets_held());
    }
    assert!(largest <= OCTETS_EACH, "{largest}");
    assert_eq!(found(&decisions, |_| {}).len(), 100);
}

fn attempt(decisions: &Decisions, id: QueueId, outcome: &Outcome, next: &'static str) {
    let app = AppName::parse("shop").unwrap();
    decisions.observe(&Event::AttemptEnded(&AttemptRecord {
        id,
        app: Some(&app),
        reverse_path: &ReversePath::Null,
        forward_paths: &paths(1),
        octets: 1_000,
        attempt: 1,
        outcome,
        next,
        wait: (next == "deferred").then_some(Duration::from_secs(30)),
        age: Duration::ZERO,
        duration: Duration::ZERO,
    }));
}

fn left(decisions: &Decisions, id: QueueId, status: &'static str) {
    let app = AppName::parse("shop").unwrap();
    let age = Duration::from_secs(1);
    let record = QueueEndRecord { id, app: Some(&app), octets: 1_000, status, attempts: 2, age };
    decisions.observe(&Event::QueueLeft(&record));
}

#[test]
fn the_record_of_a_kept_message_says_what_became_of_it() {
    let (decisions, _) = decisions(100);
    let sent = Outcome::sent(MessageId::new("ses-2").unwrap());
    let throttled = Outcome::not_sent(OutcomeKind::Throttled, replies::THROTTLED, "429 TooManyRequests: slow down");
    let client = client(Some("shop"));
    let id = QueueId::of(client.session.transaction(1));
    message(&decisions, &client, &paths(1), None, &replies::ACCEPTED);
    attempt(&decisions, id, &throttled, "deferred");
    let record = found(&decisions, |_| {}).remove(0);
    let fate = record.fate.as_ref().unwrap();
    assert_eq!((record.result, fate.status, record.sent.len()), (DecisionResult::Kept, "waiting", 0));
    assert!(fate.last.as_ref().unwrap().next.is_some());
    attempt(&decisions, id, &sent, "sent");
    left(&decisions, id, "sent");
    let all = found(&decisions, |it| it.message_id = Some("ses-2".to_owned()));
    let fate = all[0].fate.as_ref().unwrap();
    assert_eq!((all.len(), fate.status, fate.attempts), (1, "sent", 2));
    assert_eq!(decisions.counts("shop").day.queue_sent, 1);
    assert_eq!(decisions.last_errors()[0].kind, OutcomeKind::Throttled);
}

#[test]
fn an_attempt_that_is_reported_before_the_acceptance_belongs_to_it_too() {
    let (decisions, _) = decisions(100);
    let sent = Outcome::sent(MessageId::new("ses-3").unwrap());
    let client = client(Some("shop"));
    let id = QueueId::of(client.session.transaction(1));
    attempt(&decisions, id, &sent, "sent");
    left(&decisions, id, "sent");
    message(&decisions, &client, &paths(1), None, &replies::ACCEPTED);
    let all = found(&decisions, |_| {});
    let fate = all[0].fate.as_ref().unwrap();
    assert_eq!((all.len(), fate.status, &*all[0].sent[0].id), (1, "sent", "ses-3"));
    assert_eq!((all[0].octets, all[0].message_id.as_deref()), (Some(1_000), Some("<1@a.example>")));
    // Of an earlier process: its acceptance is not in the list.
    let other = QueueId::of(SessionId::fresh().transaction(1));
    attempt(&decisions, other, &sent, "sent");
    let record = found(&decisions, |it| it.reference = Some(other.to_string())).remove(0);
    assert_eq!((record.stage, record.recipients.len()), (crate::observe::Stage::Queue, 1));
}

#[test]
fn counts_begin_anew_with_the_hour_and_with_the_day() {
    let (decisions, clock) = decisions(10);
    clock.set_wall(UNIX_EPOCH + Duration::from_secs(1_700_000_000 / 86_400 * 86_400));
    let shop = client(Some("shop"));
    for _ in 0..3 {
        refused(&decisions, &shop, "eve@c.example", "reverse_path", "");
    }
    clock.advance(Duration::from_secs(3_600));
    refused(&decisions, &shop, "eve@c.example", "few", "");
    let counts = decisions.counts("shop");
    assert_eq!((counts.hour.commands_refused, counts.day.commands_refused), (1, 4));
    assert_eq!((counts.hour.rules.get("few"), counts.day.rules.get("reverse_path")), (Some(&1), Some(&3)));
    clock.advance(Duration::from_secs(86_400));
    let counts = decisions.counts("shop");
    assert_eq!((counts.hour.commands_refused, counts.day.commands_refused), (0, 0));
    for number in 0..100 {
        refused(&decisions, &shop, "eve@c.example", &format!("rule-{number}"), "");
    }
    let rules = decisions.counts("shop").day.rules;
    assert_eq!((rules.len(), rules["other"]), (31, 70));
}
