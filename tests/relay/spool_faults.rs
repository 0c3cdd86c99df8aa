//! What goes wrong around kept mail while the relay runs: a shutdown at each stage, a task that panics, a clock that jumps.

use crate::spool::{Kept, RECIPIENT, queued, sent, unavailable};
use crate::support::{Log, NOTE, Smtp, TestRelay, TestSetup, listener, until, with};
use async_trait::async_trait;
use gatepost::builder::Builder;
use gatepost::mail::parameters::Delivery;
use gatepost::mail::{Clock, MessageId, Outcome, Permitted, SystemClock};
use gatepost::policy::{AddressPattern, AppPolicy, DefaultApp};
use gatepost::relay::{OnAmbiguous, QueueSettings};
use gatepost::server::ListenerAddress;
use gatepost::spool::{MemorySpool, SpoolLimits};
use gatepost::transport::Transport;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A shutdown while one client is idle, one in DATA, an attempt is at SES, and other messages wait.
#[tokio::test]
async fn a_shutdown_ends_what_is_under_way_and_keeps_the_rest() {
    let kept = Kept::new(Delivery::Spool);
    let relay = kept
        .relay_with(|plan: TestSetup| {
            let queue = with(QueueSettings::default(), |it| it.attempts_max = 1);
            with(plan, |it| it.emulator.latency = Duration::from_secs(2)).build(move |builder| builder.queue(queue))
        })
        .await;
    let mut idle = relay.client().await;
    let mut sending = relay.client().await;
    sending.say("MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@elsewhere.example>\r\nDATA").await;
    for expected in ["250", "250", "354"] {
        sending.expect(expected).await;
    }
    sending.write(&NOTE[..40]).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await));
    }
    until("an attempt is under way", || relay.counts().0 == 1).await;
    relay.running.begin_drain();
    idle.expect("421 4.3.2").await;
    sending.write(format!("{}.\r\n", &NOTE[40..])).await;
    let reply = sending.reply().await;
    ids.push(queued(reply.trim_end()));
    sending.expect("421 4.3.2").await;
    let TestRelay { emulator, running, log: _log } = relay;
    assert!(running.stop().await, "nothing was cut");
    assert_eq!(emulator.messages().len(), 1, "the attempt under way ended, and none began");
    let first = emulator.messages()[0].email_tags[0].1.clone();
    let relay = kept.relay().await;
    sent(&relay, 3).await;
    let mut tags: Vec<String> = relay.emulator.messages().into_iter().map(|it| it.email_tags[0].1.clone()).collect();
    tags.push(first);
    tags.sort();
    ids.sort();
    assert_eq!(tags, ids, "each once");
    assert_eq!(relay.running.relay().ambiguous_attempts(), 0);
}

/// Panics at the first message.
struct PanicsOnce(AtomicU32);

#[async_trait]
impl Transport for PanicsOnce {
    async fn send(&self, _message: Permitted, _deadline: Instant) -> Outcome {
        let calls = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(calls > 1, "a defect in an embedder's transport");
        Outcome::sent(MessageId::new(&calls.to_string()).unwrap())
    }
}

/// It may have sent the message: an attempt without a result.
#[tokio::test]
async fn a_panic_in_an_attempt_is_an_attempt_without_a_result() {
    for on_ambiguous in [OnAmbiguous::Retry, OnAmbiguous::Hold] {
        let log = Log::default();
        let others = with(DefaultApp::local(vec![AddressPattern::parse("*@example.com").unwrap()]), |it| {
            it.app.delivery = Delivery::Spool;
        });
        let policy = AppPolicy::new(Vec::new(), Some(others), Vec::new(), None, Arc::new(SystemClock)).unwrap();
        let queue = with(QueueSettings::default(), |it| it.retry.on_ambiguous = on_ambiguous);
        let spool = MemorySpool::new(SpoolLimits::default(), Arc::new(SystemClock));
        let running = Builder::new("relay.example", policy, PanicsOnce(AtomicU32::new(0)))
            .observer(log.clone())
            .listener(listener("plain", |_| {}))
            .spool(spool, None)
            .queue(queue)
            .start()
            .unwrap();
        let ListenerAddress::Tcp(address) = running.address("plain").unwrap() else { panic!("no TCP") };
        let mut client = Smtp::connect(address).await;
        client.expect("220").await;
        client.say("EHLO client.example").await;
        client.expect("250").await;
        queued(&client.send("ann@example.com", &[RECIPIENT], NOTE).await);
        log.until("AttemptInterrupted").await;
        assert_eq!(running.relay().ambiguous_attempts(), 1);
        match on_ambiguous {
            OnAmbiguous::Retry => log.until("status: \"sent\"").await,
            OnAmbiguous::Hold => {
                until("it is held", || running.relay().spool_usage().unwrap().held == 1).await;
            }
        }
        // The relay goes on.
        queued(&client.send("ann@example.com", &[RECIPIENT], NOTE).await);
        log.until("status: \"sent\"").await;
    }
}

/// A clock whose wall time can be set.
#[derive(Default)]
struct Jumping(AtomicI64);

impl Clock for Jumping {
    fn now(&self) -> Instant {
        SystemClock.now()
    }

    fn wall(&self) -> SystemTime {
        let seconds = self.0.load(Ordering::Relaxed);
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { SystemClock.wall() - by } else { SystemClock.wall() + by }
    }
}

/// By an hour in both directions, while it runs and over a restart.
#[tokio::test]
async fn a_clock_that_jumps_neither_delays_nor_ends_kept_mail() {
    for (running, restarted) in [(-3600, 0), (3600, 0), (0, -3600), (0, 3600)] {
        let (kept, clock) = (Kept::new(Delivery::Spool), Arc::new(Jumping::default()));
        let with_clock = |clock: &Arc<Jumping>| {
            let clock = Arc::clone(clock);
            move |plan: TestSetup| plan.build(move |builder| builder.clock(Shared(clock)))
        };
        let relay = kept.relay_with(with_clock(&clock)).await;
        relay.emulator.script_always(Some(unavailable()));
        queued(&relay.send("ann@example.com", &[RECIPIENT], NOTE).await);
        relay.log.until("next: \"deferred\"").await;
        clock.0.store(running, Ordering::Relaxed);
        if restarted != 0 {
            assert!(relay.running.stop().await);
            clock.0.store(restarted, Ordering::Relaxed);
            let relay = kept.relay_with(with_clock(&clock)).await;
            sent(&relay, 1).await;
            relay.log.until("status: \"sent\"").await;
        } else {
            relay.emulator.script_always(None);
            sent(&relay, 1).await;
            relay.log.until("status: \"sent\"").await;
        }
    }
}

struct Shared(Arc<Jumping>);

impl Clock for Shared {
    fn now(&self) -> Instant {
        self.0.now()
    }

    fn wall(&self) -> SystemTime {
        self.0.wall()
    }
}
