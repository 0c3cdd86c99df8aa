use super::super::tokens::LocalTokens;
use super::*;
use crate::mail::ManualClock;

fn pace(settings: PaceSettings) -> (Arc<ManualClock>, Pace) {
    let clock = Arc::new(ManualClock::new());
    let tokens = Arc::new(LocalTokens::new(Arc::clone(&clock) as Arc<dyn Clock>));
    (Arc::clone(&clock), Pace::new(settings, tokens, clock))
}

fn fixed(rate: f64) -> PaceSettings {
    PaceSettings { recipients_per_second_max: Some(rate), percent: 100, ..PaceSettings::default() }
}

fn outcome(kind: Kind) -> Outcome {
    Outcome::not_sent(kind, replies::THROTTLED, "")
}

async fn go(pace: &Pace) -> Taken {
    match pace.take(1, false).await {
        PaceDecision::Go(taken) => taken,
        other => panic!("{other:?}"),
    }
}

/// How many of a second get through, asked often, and how each ends.
async fn second(clock: &ManualClock, pace: &Pace, kind: Kind) -> u32 {
    let mut went = 0;
    for _ in 0..100 {
        clock.advance(Duration::from_millis(10));
        while let PaceDecision::Go(taken) = pace.take(1, false).await {
            went += 1;
            pace.heard(taken, &outcome(kind)).await;
        }
    }
    went
}

#[tokio::test]
async fn the_account_the_file_and_the_number_of_relays_make_the_rate() {
    let account = |rate| AccountQuota {
        recipients_per_second_max: rate,
        recipients_per_24_hours_max: None,
        recipients_last_24_hours: 0.0,
        sending_enabled: true,
    };
    for (name, told, most, instances, want) in [
        ("nobody tells", None, None, 1, None),
        ("the account", Some(100.0), None, 1, Some(98.0)),
        ("the file", None, Some(50.0), 1, Some(49.0)),
        ("the lower of the two", Some(100.0), Some(50.0), 1, Some(49.0)),
        ("two relays", Some(100.0), None, 2, Some(49.0)),
        ("nothing at all is still a little", Some(0.0), None, 1, Some(RATE_MIN)),
    ] {
        let instances = NonZeroU32::new(instances).unwrap();
        let settings = PaceSettings { recipients_per_second_max: most, instances, ..PaceSettings::default() };
        let (_, pace) = pace(settings);
        if let Some(rate) = told {
            pace.account(account(rate));
        }
        assert_eq!(pace.view().recipients_per_second, want, "{name}");
    }
}

#[tokio::test]
async fn a_throttle_slows_everybody_and_the_rate_comes_back_by_itself() {
    let (clock, pace) = pace(fixed(100.0));
    second(&clock, &pace, Kind::Accepted).await;
    assert_eq!(second(&clock, &pace, Kind::Accepted).await, 100);
    clock.advance(Duration::from_secs(1));
    let (first, other) = (go(&pace).await, go(&pace).await);
    clock.advance(Duration::from_millis(1));
    let change = pace.heard(first, &outcome(Kind::Throttled)).await;
    let Some(PaceChange::Slowed { recipients_per_second, pause }) = change else { panic!("{change:?}") };
    assert_eq!(recipients_per_second, 70.0);
    assert!((PAUSE_MIN / 2..=PAUSE_MIN).contains(&pause), "{pause:?}");
    assert_eq!(pace.heard(other, &outcome(Kind::Throttled)).await, None, "it was under way already");
    assert!(matches!(pace.take(1, true).await, PaceDecision::Wait(_)), "a pause is for everybody");
    clock.advance(Duration::from_secs(1));
    let slow = second(&clock, &pace, Kind::Accepted).await;
    assert!((70..=110).contains(&slow), "{slow}");
    clock.advance(Duration::from_secs(20));
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
        requests += second(&clock, &pace, Kind::Throttled).await;
    }
    // After the first doublings, a try every 15 to 30 seconds: whatever was in the bucket goes each time.
    assert!(requests < 4_000, "{requests} of the 600,000 that the rate would let through");
    let first = second(&clock, &pace, Kind::Accepted).await;
    clock.advance(Duration::from_secs(120));
    second(&clock, &pace, Kind::Accepted).await;
    assert_eq!(second(&clock, &pace, Kind::Accepted).await, 1_000, "after {first}");
}

#[tokio::test]
async fn without_a_rate_throttling_teaches_one() {
    let (clock, pace) = pace(PaceSettings::default());
    for _ in 0..40 {
        let taken = go(&pace).await;
        clock.advance(Duration::from_millis(10));
        pace.heard(taken, &outcome(Kind::Accepted)).await;
    }
    let taken = go(&pace).await;
    clock.advance(Duration::from_millis(10));
    pace.heard(taken, &outcome(Kind::Throttled)).await;
    let rate = pace.view().recipients_per_second.unwrap();
    assert!((25.0..=30.0).contains(&rate), "{rate}: seven tenths of forty a second, nearly");
    clock.advance(LEARNED + Duration::from_secs(1));
    assert_eq!(pace.view().recipients_per_second, None, "and it is forgotten");
}

#[tokio::test]
async fn the_quota_of_a_day_stops_everything_and_one_message_tries() {
    let (clock, pace) = pace(fixed(100.0));
    let taken = go(&pace).await;
    let Some(PaceChange::Closed(wait)) = pace.heard(taken, &outcome(Kind::DailyQuota)).await else { panic!("closed") };
    assert!((CLOSED_MIN..=CLOSED_MIN * 3 / 2).contains(&wait), "{wait:?}");
    let PaceDecision::Closed { reply, .. } = pace.take(1, true).await else { panic!("closed") };
    assert_eq!(reply, replies::DAILY_QUOTA);
    clock.advance(wait);
    let trial = go(&pace).await;
    assert!(matches!(pace.take(1, false).await, PaceDecision::Closed { .. }), "one tries");
    let Some(PaceChange::Closed(longer)) = pace.heard(trial, &outcome(Kind::DailyQuota)).await else {
        panic!("closed")
    };
    assert!(longer >= 2 * CLOSED_MIN, "{longer:?}");
    clock.advance(longer);
    let trial = go(&pace).await;
    assert_eq!(pace.heard(trial, &outcome(Kind::Accepted)).await, Some(PaceChange::Opened));
    go(&pace).await;
}

#[tokio::test]
async fn an_account_that_tells_of_room_is_tried_at_once() {
    let (_, pace) = pace(fixed(100.0));
    let taken = go(&pace).await;
    pace.heard(taken, &outcome(Kind::DailyQuota)).await;
    let quota = |sent| AccountQuota {
        recipients_per_second_max: 100.0,
        recipients_per_24_hours_max: Some(1_000.0),
        recipients_last_24_hours: sent,
        sending_enabled: true,
    };
    pace.account(quota(1_000.0));
    assert!(matches!(pace.take(1, false).await, PaceDecision::Closed { .. }));
    pace.account(quota(900.0));
    go(&pace).await;
}

#[tokio::test]
async fn a_jump_of_the_clock_does_not_change_the_pace() {
    let (clock, pace) = pace(fixed(20.0));
    let wall = clock.wall();
    for jumped in [wall - Duration::from_secs(86_400), wall + Duration::from_secs(86_400), wall] {
        clock.set_wall(jumped);
        let went = second(&clock, &pace, Kind::Refused).await;
        assert!((19..=40).contains(&went), "{went}");
    }
}
