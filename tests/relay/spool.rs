//! Accepted mail that waits in the spool: what the client receives, what SES receives, and what is left.

use crate::support::{NOTE, Smtp, TestRelay, TestSetup, listener, short_deadline, until, with};
use gatepost::builder::Builder;
use gatepost::emulator::{ErrorName, Fault};
use gatepost::limit::PaceSettings;
use gatepost::mail::Clock;
use gatepost::mail::SystemClock;
use gatepost::mail::parameters::{AppName, ConfigurationSetName, Delivery};
use gatepost::policy::{AddressPattern, App, MatchCriteria};
use gatepost::relay::{OnAmbiguous, QueueSettings, RetrySettings};
use gatepost::spool::operate::{QueueAction, QueueFilter};
use gatepost::spool::{DeadLetters, DiskSpool, DiskSpoolSettings, SpoolLimits};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub const RECIPIENT: &str = "bob@elsewhere.example";

pub struct Kept {
    directory: TempDir,
    delivery: Delivery,
    retry: RetrySettings,
    limits: SpoolLimits,
    dead_octets_max: u64,
}

impl Kept {
    pub fn new(delivery: Delivery) -> Self {
        // So that a test need not wait for half a minute.
        let retry = with(RetrySettings::default(), |it| it.first_wait = Duration::from_millis(200));
        Self {
            directory: TempDir::new().unwrap(),
            delivery,
            retry,
            limits: SpoolLimits::default(),
            dead_octets_max: 1 << 30,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn dead(&self) -> Vec<String> {
        names(&self.path("dead"))
    }

    pub async fn relay(&self) -> TestRelay {
        self.relay_with(|plan| plan).await
    }

    pub async fn relay_with(&self, change: impl FnOnce(TestSetup) -> TestSetup) -> TestRelay {
        let settings = with(DiskSpoolSettings::new(self.path("spool")), |it| {
            it.limits = self.limits;
            it.free_octets_min = 0;
        });
        let (spool, _) = DiskSpool::open(&settings, Arc::new(SystemClock)).unwrap();
        let dead = DeadLetters::open(self.path("dead"), self.dead_octets_max).unwrap();
        let (delivery, retry) = (self.delivery, self.retry);
        TestRelay::with(|mut plan| {
            plan.app.delivery = delivery;
            let queue = with(QueueSettings::default(), |it| it.retry = retry);
            let build = move |builder: Builder| builder.spool(spool, Some(dead)).queue(queue);
            change(plan.smtp(|smtp| smtp.limits.recipients_max = 1_000).build(build))
        })
        .await
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The queue id in `250 2.0.0 Ok queued as ID`.
#[track_caller]
pub fn queued(reply: &str) -> String {
    let id = reply.strip_prefix("250 2.0.0 Ok queued as ").unwrap_or_else(|| panic!("{reply}"));
    id.to_owned()
}

pub async fn sent(relay: &TestRelay, count: usize) {
    until("the messages are at SES", || relay.emulator.messages().len() == count).await;
}

pub fn unavailable() -> Fault {
    Fault::refuse(ErrorName::TooManyRequestsException)
}

#[tokio::test]
async fn a_spooled_message_is_accepted_with_its_queue_id_and_sent_with_it_as_a_tag() {
    let kept = Kept::new(Delivery::Spool);
    let relay = kept.relay().await;
    let id = queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
    sent(&relay, 1).await;
    let message = relay.only_message();
    assert_eq!(message.email_tags, [("gatepost-id".to_owned(), id.clone())]);
    assert_eq!(message.to, [RECIPIENT]);
    assert!(std::str::from_utf8(&message.raw).unwrap().ends_with(NOTE));
    relay.log.until(&format!("QueueLeft(QueueEndRecord {{ id: {id}")).await;
    relay.log.expect("status: \"sent\", attempts: 1");
}

#[tokio::test]
async fn hand_off_else_spool_hands_off_while_ses_answers_and_keeps_what_it_would_defer() {
    let kept = Kept::new(Delivery::HandOffElseSpool);
    let relay = kept.relay_with(|plan| plan.build(|b| b.deadline(short_deadline(3_000)))).await;
    let reply = relay.send("ann@example.com", &[RECIPIENT], NOTE).await;
    assert!(reply.starts_with("250 2.0.0 Ok ") && !reply.contains("queued"), "{reply}");
    assert!(relay.only_message().email_tags.is_empty());
    for fault in [
        Fault::refuse(ErrorName::SendingPausedException),
        Fault::refuse(ErrorName::NotFoundException),
        Fault::internal_error(),
        Fault::ResetBeforeBody,
        Fault::Hang,
    ] {
        let before = relay.emulator.messages().len();
        assert!(relay.emulator.script([fault.clone()]));
        let id = queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
        sent(&relay, before + 1).await;
        relay.log.until(&format!("QueueLeft(QueueEndRecord {{ id: {id}")).await;
    }
    // What SES refuses is the client's to correct, and is not kept.
    assert!(relay.emulator.script([Fault::refuse(ErrorName::MessageRejected)]));
    let reply = relay.send("ann@example.com", &[RECIPIENT], NOTE).await;
    assert!(reply.starts_with("554 5.7.1"), "{reply}");
    // So is what policy refuses.
    let reply = relay.send("eve@elsewhere.example", &[RECIPIENT], NOTE).await;
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
}

#[tokio::test]
async fn an_ambiguous_hand_off_is_not_kept_where_a_second_copy_is_worse() {
    let mut kept = Kept::new(Delivery::HandOffElseSpool);
    kept.retry.on_ambiguous = OnAmbiguous::Hold;
    let relay = kept.relay().await;
    assert!(relay.emulator.script([Fault::AcceptThenReset]));
    let reply = relay.send("ann@example.com", &[RECIPIENT], NOTE).await;
    assert!(reply.starts_with("451 4.4.2"), "{reply}");
    assert_eq!(relay.emulator.messages().len(), 1);
}

#[tokio::test]
async fn mail_waits_while_ses_fails_over_a_restart_and_leaves_when_it_works() {
    let kept = Kept::new(Delivery::Spool);
    let relay = kept.relay().await;
    relay.emulator.script_always(Some(unavailable()));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await));
    }
    relay.log.until("next: \"deferred\"").await;
    assert!(relay.running.stop().await, "a drain ends");
    assert!(relay.emulator.messages().is_empty());
    let relay = kept.relay().await;
    sent(&relay, 5).await;
    let mut tags: Vec<String> = relay.emulator.messages().into_iter().map(|it| it.email_tags[0].1.clone()).collect();
    tags.sort();
    ids.sort();
    assert_eq!(tags, ids);
}

#[tokio::test]
async fn many_recipients_are_sent_in_calls_of_fifty_and_only_what_failed_is_tried_again() {
    let kept = Kept::new(Delivery::HandOffElseSpool);
    let relay = kept.relay().await;
    let recipients: Vec<String> = (0..120).map(|number| format!("r{number}@elsewhere.example")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    assert!(relay.emulator.script([Fault::Serve, unavailable()]));
    queued(&relay.send("ann@example.com", &recipients, NOTE).await);
    sent(&relay, 3).await;
    let mut got: Vec<String> = relay
        .emulator
        .messages()
        .into_iter()
        .flat_map(|message| {
            assert!(message.to.len() <= 50);
            message.to
        })
        .collect();
    let mut wanted: Vec<String> = recipients.iter().map(ToString::to_string).collect();
    got.sort();
    wanted.sort();
    assert_eq!(got, wanted, "each once");
    assert_eq!(relay.counts().0, 4, "three parts, one of them twice");
}

#[tokio::test]
async fn without_a_spool_the_fifty_first_recipient_is_for_the_next_message() {
    let kept = Kept::new(Delivery::HandOff);
    let relay = kept.relay().await;
    let recipients: Vec<String> = (0..51).map(|number| format!("r{number}@elsewhere.example")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let reply = relay.send("ann@example.com", &recipients, NOTE).await;
    assert!(reply.starts_with("452 4.5.3"), "{reply}");
}

#[tokio::test]
async fn what_fails_for_good_is_in_dead_letter() {
    let kept = Kept::new(Delivery::Spool);
    let relay = kept.relay().await;
    assert!(relay.emulator.script([Fault::refuse(ErrorName::MessageRejected)]));
    let id = queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
    relay.log.until("status: \"rejected\"").await;
    assert_eq!(kept.dead(), [format!("{id}.eml"), format!("{id}.json")]);
    let content = std::fs::read_to_string(kept.path("dead").join(format!("{id}.eml"))).unwrap();
    assert!(content.ends_with(NOTE));
    let reason = std::fs::read_to_string(kept.path("dead").join(format!("{id}.json"))).unwrap();
    assert!(reason.contains("\"failure\": \"rejected\"") && reason.contains("MessageRejected"), "{reason}");
    assert!(relay.emulator.messages().is_empty());
}

#[tokio::test]
async fn a_message_that_is_too_old_fails_after_a_last_attempt() {
    let mut kept = Kept::new(Delivery::Spool);
    kept.retry.expiry = Duration::from_millis(600);
    let relay = kept.relay().await;
    relay.emulator.script_always(Some(unavailable()));
    let id = queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
    relay.log.until("status: \"expired\"").await;
    assert!(kept.dead().contains(&format!("{id}.json")));
}

/// A request that SES accepted without an answer: with `hold`, exactly one.
#[tokio::test]
async fn an_ambiguous_attempt_is_held_or_tried_again() {
    for (on_ambiguous, copies) in [(OnAmbiguous::Hold, 1), (OnAmbiguous::Retry, 2)] {
        let mut kept = Kept::new(Delivery::Spool);
        kept.retry.on_ambiguous = on_ambiguous;
        let relay = kept.relay().await;
        assert!(relay.emulator.script([Fault::AcceptThenReset]));
        queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
        relay.log.until("certainty: Ambiguous").await;
        sent(&relay, copies).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!((relay.emulator.messages().len(), relay.running.relay().ambiguous_attempts()), (copies, 1));
    }
}

#[tokio::test]
async fn a_full_spool_refuses_before_the_content_is_sent() {
    let mut kept = Kept::new(Delivery::Spool);
    kept.limits.messages_max = 1;
    kept.limits.app_messages_max = 1;
    let relay = kept.relay().await;
    relay.emulator.script_always(Some(unavailable()));
    queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
    let mut client = relay.client().await;
    client.say("MAIL FROM:<ann@example.com>").await;
    client.expect("250").await;
    client.say(&format!("RCPT TO:<{RECIPIENT}>")).await;
    client.expect("250").await;
    client.say("DATA").await;
    client.expect("452 4.3.1").await;
    // It recovers by itself.
    relay.emulator.script_always(None);
    sent(&relay, 1).await;
    relay.log.until("QueueLeft").await;
    queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
}

/// An application whose configuration set does not exist: one of its messages is tried, the others wait, and nobody else does.
#[tokio::test]
async fn an_application_that_cannot_send_does_not_delay_another() {
    let kept = Kept::new(Delivery::Spool);
    let relay = kept
        .relay_with(|mut plan| {
            let app = |name: &str, network: &str, set: Option<&str>| {
                let criteria = with(MatchCriteria::default(), |it| it.listeners = vec![network.to_owned()]);
                let from = vec![AddressPattern::parse("*@example.com").unwrap()];
                with(App::new(AppName::parse(name).unwrap(), criteria, from), |it| {
                    it.delivery = Delivery::Spool;
                    it.send.configuration_set = set.map(|set| ConfigurationSetName::parse(set).unwrap());
                })
            };
            plan.apps = vec![app("broken", "first", Some("missing")), app("good", "second", None)];
            plan.listeners = vec![listener("first", |_| {}), listener("second", |_| {})];
            plan
        })
        .await;
    let send = async |name: &str| {
        let mut client = Smtp::connect(relay.port(name)).await;
        client.expect("220").await;
        client.say("EHLO client.example").await;
        client.expect("250").await;
        queued(&client.send("ann@example.com", &[RECIPIENT], NOTE).await)
    };
    for _ in 0..20 {
        send("first").await;
    }
    relay.log.until("next: \"deferred\"").await;
    for _ in 0..20 {
        send("second").await;
    }
    sent(&relay, 20).await;
    let requests = relay.counts().0;
    assert!(requests < 20 + 40, "{requests}: no storm");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(relay.counts().0, requests, "the others wait for the next probe");
    let faults = relay.running.relay().faults();
    assert!(faults.iter().any(|fault| fault.apps[..] == [AppName::parse("broken").unwrap()]), "{faults:?}");
}

/// What each answer of SES does to a message that is kept.
#[tokio::test]
async fn every_answer_of_ses_has_its_consequence() {
    let kept = Kept::new(Delivery::Spool);
    let relay = kept.relay_with(|plan| plan.build(|builder| builder.deadline(short_deadline(1_000)))).await;
    let error = error_row;
    let rows = [
        (error("MessageRejected"), "rejected"),
        (error("BadRequestException"), "rejected"),
        (error("MailFromDomainNotVerifiedException"), "sent"),
        (error("TooManyRequestsException"), "sent"),
        (Fault::internal_error(), "sent"),
        (Fault::unavailable(), "sent"),
        (Fault::Hang, "sent"),
        (Fault::ResetBeforeBody, "sent"),
        (Fault::AcceptThenReset, "sent"),
        (Fault::AcceptThenHang, "sent"),
        (Fault::Garbage, "sent"),
        (Fault::NoMessageId, "sent"),
        (Fault::Slow { octets_per_second: std::num::NonZeroU32::MIN }, "sent"),
    ];
    for (fault, status) in rows {
        let name = format!("{fault:?}");
        assert!(relay.emulator.script([fault]), "{name}");
        let id = queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
        let end = format!("QueueLeft(QueueEndRecord {{ id: {id}");
        until(&name, || relay.log.lines().iter().any(|line| line.starts_with(&end))).await;
        let lines = relay.log.lines();
        let line = lines.iter().find(|line| line.starts_with(&end)).unwrap();
        assert!(line.contains(&format!("status: \"{status}\"")), "{name}: {line}");
        let attempts = if status == "sent" { 2 } else { 1 };
        assert!(line.contains(&format!("attempts: {attempts}")), "{name}: {line}");
    }
    assert_eq!(kept.dead().len(), 4, "two messages");
}

#[tokio::test]
async fn messages_that_wait_for_long_and_a_full_dead_letter_are_faults() {
    let mut kept = Kept::new(Delivery::Spool);
    kept.dead_octets_max = 100;
    let relay = kept.relay_with(|plan| {
        let queue = with(QueueSettings::default(), |it| it.degraded_after = Duration::ZERO);
        plan.build(|builder| builder.queue(queue))
    });
    let relay = relay.await;
    assert!(relay.running.relay().faults().is_empty());
    assert!(relay.emulator.script([error_row("MessageRejected")]));
    let id = queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
    until("a fault", || texts(&relay).iter().any(|text| text.contains("spool.dead_letter takes no more messages")))
        .await;
    until(&format!("{id} is held, not lost"), || {
        let usage = relay.running.relay().spool_usage().unwrap();
        (usage.messages, usage.held) == (1, 1)
    })
    .await;
}

fn error_row(name: &str) -> Fault {
    Fault::refuse(*ErrorName::ALL.iter().find(|row| row.as_str() == name).unwrap())
}

fn texts(relay: &TestRelay) -> Vec<String> {
    relay.running.relay().faults().into_iter().map(|fault| fault.text).collect()
}

/// Every message took the rate of fifty recipients: the spool drained at a fiftieth of the account's rate.
#[tokio::test]
async fn a_message_takes_as_much_of_the_rate_as_it_has_recipients() {
    let kept = Kept::new(Delivery::Spool);
    let relay = kept
        .relay_with(|plan| {
            let pace = with(PaceSettings::default(), |it| it.recipients_per_second_max = Some(100.0));
            plan.build(move |builder| builder.pace(pace))
        })
        .await;
    let began = gatepost::mail::SystemClock.now();
    for _ in 0..60 {
        queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
    }
    sent(&relay, 60).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// A message that is held while it waits for its send slot was sent all the same.
#[tokio::test]
async fn a_message_that_is_held_while_it_waits_for_the_rate_is_not_sent() {
    let kept = Kept::new(Delivery::Spool);
    let relay = kept
        .relay_with(|plan| {
            let pace = with(PaceSettings::default(), |it| it.recipients_per_second_max = Some(1.0));
            plan.build(move |builder| builder.pace(pace))
        })
        .await;
    for _ in 0..8 {
        queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
    }
    sent(&relay, 1).await;
    let inner = relay.running.relay();
    let held = inner.queue_page(&QueueFilter::default(), None, Some(QueueAction::Hold)).await.unwrap().unwrap();
    assert!(held.rows.len() >= 5, "{held:?}");
    // One that was being sent just then may be sent.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = relay.emulator.messages().len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(relay.emulator.messages().len(), before, "no more are sent");
    assert_eq!(before + inner.spool_usage().unwrap().held as usize, 8);
    // One that is released leaves, although it was added while nothing else changed.
    inner.queue_page(&QueueFilter::default(), None, Some(QueueAction::Release)).await.unwrap().unwrap();
    sent(&relay, 8).await;
}

/// Of an application that cannot send, one message is tried from time to time; the others were kept for as many days as that takes.
#[tokio::test]
async fn messages_of_an_application_that_cannot_send_expire_too() {
    let mut kept = Kept::new(Delivery::Spool);
    kept.retry.expiry = Duration::from_millis(500);
    let relay = kept.relay().await;
    relay.emulator.script_always(Some(error_row("SendingPausedException")));
    for _ in 0..60 {
        queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
    }
    until("all have expired", || relay.running.relay().spool_usage().unwrap().messages == 0).await;
    assert_eq!(kept.dead().len(), 120, "each with its reason");
    assert!(relay.emulator.messages().is_empty());
}
