use super::super::learned::LEARNED;
use super::super::token_bucket::LocalTokenBucket;
use super::*;
use crate::mail::ManualClock;

fn pace(settings: PaceSettings) -> (Arc<ManualClock>, Pacer) {
    let clock = Arc::new(ManualClock::new());
    let tokens = Arc::new(LocalTokenBucket::new(Arc::clone(&clock) as Arc<dyn Clock>));
    (Arc::clone(&clock), Pacer::new(settings, tokens, clock))
}

fn fixed(rate: f64) -> PaceSettings {
    PaceSettings { recipients_per_second_max: Some(rate), percent: 100, ..PaceSettings::default() }
}

fn outcome(kind: OutcomeKind) -> Outcome {
    Outcome::not_sent(kind, replies::THROTTLED, "")
}

async fn go(pace: &Pacer) -> PacerPermit {
    match pace.take(1, false).await {
        PaceDecision::Go(taken) => taken,
        other => panic!("{other:?}"),
    }
}

/// Tries to send often for one second, and ends each attempt with an outcome. Returns the number of attempts.
async fn second(clock: &ManualClock, pace: &Pacer, kind: OutcomeKind) -> u32 {
    let mut went = 0;
    for _ in 0..1_000 {
        clock.advance(Duration::from_millis(1));
        while let PaceDecision::Go(taken) = pace.take(1, false).await {
            went += 1;
            pace.record_outcome(taken, &outcome(kind)).await;
        }
    }
    went
}

/// Sends for a number of seconds to a provider with a bucket of ten and a rate.
async fn behind_a_bucket(clock: &ManualClock, pace: &Pacer, rate: f64, seconds: u32) {
    let mut tokens = 10.0_f64;
    for _ in 0..seconds * 1_000 {
        clock.advance(Duration::from_millis(1));
        tokens = (tokens + rate / 1_000.0).min(10.0);
        if let PaceDecision::Go(taken) = pace.take(1, false).await {
            let has_token = tokens >= 1.0;
            tokens -= f64::from(u8::from(has_token));
            pace.record_outcome(
                taken,
                &outcome(if has_token { OutcomeKind::Accepted } else { OutcomeKind::Throttled }),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn the_rate_derives_from_the_account_the_file_and_the_number_of_relays() {
    let account = |rate| AccountQuota {
        recipients_per_second_max: rate,
        recipients_per_24_hours_max: None,
        recipients_last_24_hours: 0.0,
        sending_enabled: true,
    };
    for (name, reported, most, instances, want) in [
        ("no rate is reported", None, None, 1, None),
        ("the account", Some(100.0), None, 1, Some(98.0)),
        ("the file", None, Some(50.0), 1, Some(49.0)),
        ("the lower of the two", Some(100.0), Some(50.0), 1, Some(49.0)),
        ("two relays", Some(100.0), None, 2, Some(49.0)),
        ("a reported rate of zero is the minimum rate", Some(0.0), None, 1, Some(RATE_MIN)),
    ] {
        let instances = NonZeroU32::new(instances).unwrap();
        let settings = PaceSettings { recipients_per_second_max: most, instances, ..PaceSettings::default() };
        let (_, pace) = pace(settings);
        if let Some(rate) = reported {
            pace.account(account(rate));
        }
        assert_eq!(pace.view().recipients_per_second, want, "{name}");
    }
}

#[tokio::test]
async fn after_a_throttle_messages_are_released_evenly_and_the_burst_comes_back_by_itself() {
    let (clock, pace) = pace(fixed(100.0));
    let burst = async || {
        let mut taken = Vec::new();
        while let PaceDecision::Go(more) = pace.take(1, false).await {
            taken.push(more);
        }
        taken
    };
    let taken = burst().await;
    assert_eq!(taken.len(), 50, "half a second's worth, before the first throttle");
    clock.advance(Duration::from_millis(1));
    let change = pace.record_outcome(taken[0], &outcome(OutcomeKind::Throttled)).await;
    let Some(PaceChange::Slowed { recipients_per_second, pause }) = change else { panic!("{change:?}") };
    assert_eq!(recipients_per_second, 100.0, "the rate may be correct");
    assert!(pause <= Duration::from_millis(5), "a longer one would fill the bucket of SES: {pause:?}");
    assert_eq!(pace.record_outcome(taken[1], &outcome(OutcomeKind::Throttled)).await, None, "it was in flight already");
    assert!(matches!(pace.take(1, true).await, PaceDecision::Wait(_)), "a pause applies to guaranteed messages too");
    clock.advance(Duration::from_secs(10));
    assert_eq!(burst().await.len(), 1, "evenly");
    for _ in 0..150 {
        clock.advance(Duration::from_secs(1));
        pace.record_outcome(go(&pace).await, &outcome(OutcomeKind::Accepted)).await;
    }
    clock.advance(Duration::from_secs(10));
    assert_eq!(burst().await.len(), 25, "half of what was refused");
    clock.advance(LEARNED);
    assert_eq!(burst().await.len(), 50, "the refused burst is no limit any more");
}

#[tokio::test]
async fn a_rate_that_is_told_too_high_is_learned_and_comes_back_by_itself() {
    let (clock, pace) = pace(fixed(100.0));
    behind_a_bucket(&clock, &pace, 40.0, 10).await;
    let view = pace.view();
    assert!(view.slowed && view.recipients_per_second < Some(45.0), "{view:?}");
    for _ in 0..20 {
        second(&clock, &pace, OutcomeKind::Accepted).await;
    }
    assert_eq!(
        pace.view(),
        PaceView { recipients_per_second: Some(100.0), account: None, slowed: false, closed: false }
    );
}

#[tokio::test]
async fn while_everything_is_throttled_few_requests_are_made() {
    let (clock, pace) = pace(fixed(1_000.0));
    let mut requests = 0;
    for _ in 0..600 {
        requests += second(&clock, &pace, OutcomeKind::Throttled).await;
    }
    // After the first doublings, there is an attempt every 15 to 30 seconds.
    assert!(requests < 600, "{requests} of the 600,000 that the rate would let through");
    for _ in 0..60 {
        second(&clock, &pace, OutcomeKind::Accepted).await;
    }
    assert_eq!(second(&clock, &pace, OutcomeKind::Accepted).await, 1_000);
}

#[tokio::test]
async fn without_a_reported_rate_one_is_learned_from_throttling() {
    let (clock, pace) = pace(PaceSettings::default());
    behind_a_bucket(&clock, &pace, 40.0, 20).await;
    let rate = pace.view().recipients_per_second.unwrap();
    assert!((37.0..=44.0).contains(&rate), "{rate} of forty a second");
    clock.advance(LEARNED + Duration::from_secs(1));
    assert_eq!(pace.view().recipients_per_second, None, "the learned rate is discarded");
}

#[tokio::test]
async fn the_quota_of_a_day_stops_everything_and_one_message_tries() {
    let (clock, pace) = pace(fixed(100.0));
    let taken = go(&pace).await;
    let Some(PaceChange::Closed(wait)) = pace.record_outcome(taken, &outcome(OutcomeKind::DailyQuota)).await else {
        panic!("closed")
    };
    assert!((CLOSED_MIN..=CLOSED_MIN * 3 / 2).contains(&wait), "{wait:?}");
    let PaceDecision::Closed(Refusal { reply, .. }) = pace.take(1, true).await else { panic!("closed") };
    assert_eq!(reply, replies::DAILY_QUOTA);
    clock.advance(wait);
    let trial = go(&pace).await;
    assert!(matches!(pace.take(1, false).await, PaceDecision::Closed(_)), "one tries");
    let Some(PaceChange::Closed(longer)) = pace.record_outcome(trial, &outcome(OutcomeKind::DailyQuota)).await else {
        panic!("closed")
    };
    assert!(longer >= 2 * CLOSED_MIN, "{longer:?}");
    clock.advance(longer);
    let trial = go(&pace).await;
    assert_eq!(pace.record_outcome(trial, &outcome(OutcomeKind::Accepted)).await, Some(PaceChange::Opened));
    go(&pace).await;
}

#[tokio::test]
async fn an_account_that_reports_capacity_is_tried_at_once() {
    let (_, pace) = pace(fixed(100.0));
    let taken = go(&pace).await;
    pace.record_outcome(taken, &outcome(OutcomeKind::DailyQuota)).await;
    let quota = |sent| AccountQuota {
        recipients_per_second_max: 100.0,
        recipients_per_24_hours_max: Some(1_000.0),
        recipients_last_24_hours: sent,
        sending_enabled: true,
    };
    pace.account(quota(1_000.0));
    assert!(matches!(pace.take(1, false).await, PaceDecision::Closed(_)));
    pace.account(quota(900.0));
    go(&pace).await;
}

#[tokio::test]
async fn a_jump_of_the_clock_does_not_change_the_pace() {
    let (clock, pace) = pace(fixed(20.0));
    let wall = clock.wall();
    for jumped in [wall - Duration::from_secs(86_400), wall + Duration::from_secs(86_400), wall] {
        clock.set_wall(jumped);
        let went = second(&clock, &pace, OutcomeKind::Refused).await;
        assert!((19..=40).contains(&went), "{went}");
    }
}
