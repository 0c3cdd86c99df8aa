//! Simulations on tokio's own paused clock: minutes of sending in milliseconds, the same every time.

use super::*;
use crate::limit::{LocalTokenBucket, PaceSettings};
use crate::relay::BudgetSettings;
use std::time::SystemTime;

/// The clock of a paused tokio runtime.
struct Simulated;

impl Clock for Simulated {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

fn app(name: &str) -> App {
    Some(AppName::parse(name).unwrap())
}

fn queue(rate: f64, shares: &[(&str, AppShare)], calls_max: usize) -> Arc<SendQueue> {
    let clock: Arc<dyn Clock> = Arc::new(Simulated);
    let settings = PaceSettings { recipients_per_second_max: Some(rate), percent: 100, ..PaceSettings::default() };
    let pace = Pacer::new(settings, Arc::new(LocalTokenBucket::new(Arc::clone(&clock))), Arc::clone(&clock));
    let shares = shares.iter().map(|(name, share)| (AppName::parse(name).unwrap(), *share)).collect();
    let budget = Arc::new(Budget::new(&BudgetSettings::default(), 0));
    Arc::new(SendQueue::new(SendQueueSettings { calls_max, shares }, Some(Arc::new(pace)), clock, budget))
}

/// Sends that many messages at that rate, each in a task of its own; how long each waited, and how many came too late.
async fn load(
    queue: &Arc<SendQueue>,
    name: &str,
    messages: u32,
    per_second: f64,
    recipients: u32,
) -> (Vec<Duration>, u32) {
    let mut tasks = tokio::task::JoinSet::new();
    let began = Simulated.now();
    for number in 0..messages {
        let (queue, app) = (Arc::clone(queue), app(name));
        tasks.spawn(async move {
            let came = Simulated.now();
            let weight = Weight { recipients, octets: 1_000 };
            let slot = queue.slot(&app, weight, came + Duration::from_secs(18)).await;
            // Sent in no time.
            slot.map(|_| Simulated.now() - came)
        });
        // tokio's clock goes by milliseconds.
        let due = began + Duration::from_secs_f64(f64::from(number + 1) / per_second);
        if due > Simulated.now() {
            tokio::time::sleep_until(due.into()).await;
        }
    }
    let mut waits = Vec::new();
    let mut late = 0;
    for ended in tasks.join_all().await {
        match ended {
            Ok(wait) => waits.push(wait),
            Err(Refusal { reply, .. }) => {
                assert_eq!(reply, replies::THROTTLED);
                late += 1;
            }
        }
    }
    waits.sort();
    (waits, late)
}

fn p99(waits: &[Duration]) -> Duration {
    waits[waits.len() * 99 / 100 - 1]
}

#[tokio::test(start_paused = true)]
async fn an_application_at_a_hundred_times_its_share_does_not_slow_another() {
    let half = |least| AppShare { weight: 1.0, recipients_per_second_min: least };
    for (name, rate, least, recipients) in
        [("guaranteed", 200.0, 90.0, 1), ("by weight alone", 200.0, 0.0, 1), ("with many recipients", 200.0, 90.0, 10)]
    {
        let shares = [("quiet", half(least)), ("flood", half(0.0))];
        let quiet_rate = 80.0 / f64::from(recipients);
        // Alone, it has what is its own: half of the rate.
        let alone = queue(rate / 2.0, &shares, 1_000);
        let (waits, late) = load(&alone, "quiet", 800, quiet_rate, recipients).await;
        assert_eq!(late, 0, "{name}");
        let wait_alone = p99(&waits).max(Duration::from_secs_f64(f64::from(recipients) / rate));
        let both = queue(rate, &shares, 1_000);
        let flood = {
            let both = Arc::clone(&both);
            tokio::spawn(async move { load(&both, "flood", 100_000, 10_000.0, 1).await })
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (waits, late) = load(&both, "quiet", 600, quiet_rate, recipients).await;
        assert_eq!(late, 0, "{name}");
        assert!(p99(&waits) <= 2 * wait_alone, "{name}: {:?} beside, {wait_alone:?} alone", p99(&waits));
        let (sent, late) = flood.await.unwrap();
        assert!(late > 90_000 && sent.len() > 2_000, "{name}: the flood has what is left over, {}", sent.len());
    }
}

#[tokio::test(start_paused = true)]
async fn weights_divide_what_is_there() {
    let weight = |weight| AppShare { weight, recipients_per_second_min: 0.0 };
    let queue = queue(100.0, &[("one", weight(1.0)), ("three", weight(3.0))], 1_000);
    let other = {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move { load(&queue, "three", 3_000, 300.0, 1).await })
    };
    let (one, _) = load(&queue, "one", 3_000, 300.0, 1).await;
    let (three, _) = other.await.unwrap();
    let ratio = three.len() as f64 / one.len() as f64;
    assert!((2.6..=3.4).contains(&ratio), "{} to {}", three.len(), one.len());
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept_and_nearly_all_of_it_is_used() {
    let queue = queue(200.0, &[], 1_000);
    let began = Simulated.now();
    let (sent, _) = load(&queue, "one", 20_000, 1_000.0, 1).await;
    let seconds = (Simulated.now() - began).as_secs_f64();
    let most = 200.0 * seconds + 100.0 + 1.0;
    assert!((sent.len() as f64) <= most, "{} in {seconds} s", sent.len());
    assert!((sent.len() as f64) >= 0.95 * 200.0 * seconds, "{} in {seconds} s", sent.len());
}

#[tokio::test(start_paused = true)]
async fn who_would_certainly_come_too_late_is_told_at_once() {
    let queue = queue(1.0, &[], 1_000);
    let (app, weight) = (app("one"), Weight { recipients: 30, octets: 1_000 });
    let deadline = || Simulated.now() + Duration::from_secs(18);
    // The first takes the bucket far below empty, the second waits for it, the third need not try.
    queue.slot(&app, weight, deadline()).await.unwrap();
    let second = {
        let (queue, app) = (Arc::clone(&queue), app.clone());
        tokio::spawn(async move { queue.slot(&app, weight, Simulated.now() + Duration::from_secs(18)).await })
    };
    tokio::task::yield_now().await;
    let came = Simulated.now();
    let refused = queue.slot(&app, weight, deadline()).await.unwrap_err();
    assert_eq!((refused.reply, Simulated.now() - came), (replies::THROTTLED, Duration::ZERO));
    assert_eq!(second.await.unwrap().unwrap_err().reply, replies::THROTTLED);
    assert_eq!(queue.in_use().0, 0, "nobody is left behind in the queue");
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_are_bounded_and_what_is_not_used_is_given_back() {
    let queue = queue(1.0, &[], 2);
    let (app, weight) = (app("one"), Weight { recipients: 1, octets: 1_000 });
    let deadline = || Simulated.now() + Duration::from_secs(3);
    let first = queue.slot(&app, weight, deadline()).await.unwrap();
    queue.give_back(first).await;
    let began = Simulated.now();
    let held =
        [queue.slot(&app, weight, deadline()).await.unwrap(), queue.slot(&app, weight, deadline()).await.unwrap()];
    assert_eq!(Simulated.now() - began, Duration::from_secs(1), "the one given back was there at once");
    assert_eq!(queue.slot(&app, weight, deadline()).await.unwrap_err().reply, replies::DEADLINE);
    drop(held);
    queue.slot(&app, weight, deadline()).await.unwrap();
}

/// Memory to send with for two large messages; the first two hold it.
async fn full_of_large(queue: &Arc<SendQueue>) -> Vec<SendSlot> {
    let deadline = Simulated.now() + Duration::from_secs(18);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(queue.slot(&app("one"), Weight { recipients: 1, octets: LARGE }, deadline).await.unwrap());
    }
    held
}

const LARGE: u64 = 80 * 1024 * 1024;

fn wait_for_slot(
    queue: &Arc<SendQueue>,
    name: &str,
    octets: u64,
) -> tokio::task::JoinHandle<Result<SendSlot, Refusal>> {
    let (queue, app, deadline) = (Arc::clone(queue), app(name), Simulated.now() + Duration::from_secs(18));
    tokio::spawn(async move { queue.slot(&app, Weight { recipients: 1, octets }, deadline).await })
}

/// Messages waited behind the first that did not fit into the memory, for all of their deadline.
#[tokio::test(start_paused = true)]
async fn a_small_message_goes_before_large_ones_that_do_not_fit() {
    for name in ["one", "two"] {
        let queue = queue(1_000.0, &[], 100);
        let held = full_of_large(&queue).await;
        let large: Vec<_> = (0..5).map(|_| wait_for_slot(&queue, "one", LARGE)).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let began = Simulated.now();
        wait_for_slot(&queue, name, 10_000).await.unwrap().unwrap();
        assert!(Simulated.now() - began < Duration::from_secs(1), "{name}: {:?}", Simulated.now() - began);
        assert_eq!(queue.in_use().0, 5, "the large ones still wait");
        drop(held);
        for large in large {
            drop(large.await.unwrap().unwrap());
        }
        assert_eq!((queue.in_use(), queue.budget.in_use()), ((0, 0), (0, 0, 0)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_message_is_overtaken_by_no_more_octets_than_its_own() {
    for name in ["one", "two"] {
        let queue = queue(1_000.0, &[], 100);
        let held = full_of_large(&queue).await;
        let large = wait_for_slot(&queue, "one", LARGE);
        tokio::time::sleep(Duration::from_millis(10)).await;
        // Each is sent in no time, so memory is not what ends it.
        let small = (0..20).map(|_| wait_for_slot(&queue, name, LARGE / 10));
        let small: Vec<_> = small.map(|small| tokio::spawn(async { drop(small.await.unwrap().unwrap()) })).collect();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let passed = small.iter().filter(|small| small.is_finished()).count();
        // The first of another application may be in its turn, and overtakes nothing then.
        assert!((10..=11).contains(&passed), "{name}: {passed}");
        drop(held);
        drop(large.await.unwrap().unwrap());
        for small in small {
            small.await.unwrap();
        }
    }
}
