//! Learns the provider's rate from its throttling: recipients per second, and recipients at once.
//!
//! A token bucket at the provider has two parameters, its rate and its burst. `GetAccount` returns at most the rate,
//! and not always the effective one. After the first throttle, messages are released evenly. While nothing is
//! throttled, the burst grows again up to half of the burst that was refused last. Each throttle lowers the rate a
//! little. In addition the rate is evaluated in rounds: if it was far too high, it becomes the accepted rate; if a
//! round used all of it without a throttle, it is raised, fast while it is far below the rate that was throttled last,
//! slowly near it. A simulation (`relay/throttle_tests.rs`) checks the result: at most one call in twenty is throttled,
//! and nearly all of the provider's rate is used. A pure calculation: time is an argument.

use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(super) struct Learned {
    /// `None`: no throttle, or none within [`LEARNED`].
    since: Option<Throttled>,
    round: Option<Round>,
    /// Throttles since the last accepted message.
    in_a_row: u32,
}

/// What was learned since the first throttle.
#[derive(Clone, Copy, Debug)]
struct Throttled {
    /// Recipients per second; `None`: the configured or reported rate applies.
    rate: Option<f64>,
    /// The rate at the last throttle, or an estimate of it.
    ceiling: Option<f64>,
    /// The rate of the last round without a throttle.
    proven: Option<f64>,
    /// A round has ended since the rate fell far or was estimated. Until then, a throttle is a consequence of the
    /// earlier rate.
    settled: bool,
    /// The rate was far too high in the last round.
    too_high: bool,
    /// Growth per second near the ceiling; it doubles with every second without a throttle.
    growth: f64,
    /// The burst, in seconds of the rate.
    burst: f64,
    burst_refused: f64,
    /// When the rate fell far or was first estimated: the results of calls that were in flight then are ignored.
    fell: Instant,
    /// The last throttle, and when burst and growth were last doubled.
    at: Instant,
    burst_grown: Instant,
    growth_grown: Instant,
}

/// Recipients accepted and throttled since the start of the round.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    accepted: f64,
    throttled: f64,
    /// Throttles of calls that started after the previous throttle.
    events: u32,
}

/// The burst before the first throttle, and its maximum afterwards, in seconds of the rate.
const BURST_SECONDS: f64 = 0.5;
/// The burst after a throttle: enough for timers that fire some milliseconds late.
const EVEN_SECONDS: f64 = 0.01;
/// The burst doubles after this long without a throttle.
const BURST_GROWS: Duration = Duration::from_secs(30);
/// Everything learned is discarded after this long without a throttle.
pub(super) const LEARNED: Duration = Duration::from_secs(600);

/// A round has a minimum duration, and a minimum number of recipients (lower where the rate is far too low) or the
/// maximum duration below.
const ROUND_MIN: Duration = Duration::from_millis(250);
const ROUND_RECIPIENTS: f64 = 16.0;
const ROUND_RECIPIENTS_FAST: f64 = 4.0;
const ROUND_MAX: Duration = Duration::from_secs(2);

/// The part of the rate that remains after a throttle. Just above the rate of a bucket of one, every second call is
/// throttled, so the rate is lowered at once.
const LITTLE_LESS: f64 = 0.985;
/// The rate is far too high if it is this multiple of the accepted rate, with at least this many throttles of this many
/// recipients. A bucket of one loses half of its rate to throttles at the correct rate.
const FAR_TOO_HIGH: f64 = 2.0;
const EVENTS: u32 = 3;
const FEW_RECIPIENTS: f64 = 3.0;
/// The new rate is then this part of the accepted rate, but at least these parts of the proven and of the previous
/// rate. The estimated provider rate is a multiple of the accepted rate.
const OF_ACCEPTED: f64 = 0.98;
const OF_PROVEN: f64 = 0.97;
const LEAST: f64 = 0.25;
const CEILING: f64 = 1.6;
/// The part of the rate that remains after a round in which nothing was accepted.
const NOTHING_ACCEPTED: f64 = 0.5;
/// The minimum rate: a part of the reported rate, or recipients per second.
const MIN_OF_REPORTED: f64 = 0.02;
const RATE_MIN: f64 = 0.1;
/// The minimum of the first estimate, which is the rate accepted in the round, where no rate is reported.
const GUESS_MIN: f64 = 10.0;

/// A round uses the rate if this part of it is accepted.
const USED: f64 = 0.7;
/// Far below the ceiling, the rate grows by this factor each round.
const FAST: f64 = 1.5;
const FAR_BELOW: f64 = 0.9;
/// Growth per second: just after a throttle, after the ceiling was estimated, the maximum near the ceiling, and the
/// maximum where the ceiling was wrong.
const GROWTH_MIN: f64 = 0.0025;
const GROWTH_GUESSED: f64 = 0.04;
const GROWTH_NEAR: f64 = 0.1;
const GROWTH_MAX: f64 = 0.3;
const FAR_ABOVE: f64 = 1.1;

/// The first pause after a throttle, in recipients. During a longer pause, a small bucket fills up and its capacity is
/// lost.
const PAUSE_RECIPIENTS: f64 = 0.1;
/// The shortest and the longest pause. The pause doubles while nothing is accepted.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl Learned {
    /// Recipients per second; `reported`: the rate of GetAccount or of the settings.
    pub(super) fn rate(&mut self, now: Instant, reported: Option<f64>) -> Option<f64> {
        if self.since.is_some_and(|since| now.saturating_duration_since(since.at) > LEARNED) {
            *self = Self::default();
        }
        match (self.since.and_then(|since| since.rate), reported) {
            (Some(rate), Some(reported)) => Some(rate.min(reported)),
            (rate, reported) => rate.or(reported),
        }
    }

    /// The burst at that rate, in recipients.
    pub(super) fn burst(&self, rate: f64) -> f64 {
        self.since.map_or(BURST_SECONDS, |since| since.burst) * rate
    }

    /// Whether throttling has lowered the rate.
    pub(super) fn is_slowed(&self, reported: Option<f64>) -> bool {
        let rate = self.since.and_then(|since| since.rate);
        rate.is_some_and(|rate| reported.is_none_or(|reported| rate < reported))
    }

    /// Throttles since the last accepted message.
    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// Records that a call which started at `began` was accepted.
    pub(super) fn accepted(&mut self, now: Instant, began: Instant, recipients: f64, reported: Option<f64>) {
        self.in_a_row = 0;
        self.count(now, began, Round { accepted: recipients, ..Round::new(now) }, reported);
        if let Some(since) = &mut self.since
            && now.saturating_duration_since(since.at.max(since.burst_grown)) >= BURST_GROWS
        {
            since.burst = (since.burst * 2.0).min(since.burst_refused / 2.0).max(since.burst);
            since.burst_grown = now;
        }
    }

    /// Records that a call which started at `began` was throttled. Returns the pause for all senders. `None` if the
    /// call was in flight at the last throttle and gives no new information.
    pub(super) fn throttled(
        &mut self,
        now: Instant,
        began: Instant,
        recipients: f64,
        reported: Option<f64>,
    ) -> Option<Duration> {
        let is_new = self.since.is_none_or(|since| began > since.at);
        if is_new {
            self.lower(now, began, reported);
        }
        let more = Round { throttled: recipients, events: u32::from(is_new), ..Round::new(now) };
        self.count(now, began, more, reported);
        if !is_new {
            return None;
        }
        let rate = self.rate(now, reported).unwrap_or(GUESS_MIN);
        let first = Duration::from_secs_f64(PAUSE_RECIPIENTS / rate.max(RATE_MIN)).clamp(PAUSE_MIN, PAUSE_MAX);
        let pause = first.saturating_mul(2_u32.pow(self.in_a_row.min(15))).min(PAUSE_MAX);
        self.in_a_row = self.in_a_row.saturating_add(1);
        Some(pause)
    }

    /// Releases messages evenly from now on. If that is the case already, lowers the rate a little.
    fn lower(&mut self, now: Instant, began: Instant, reported: Option<f64>) {
        let Some(since) = &mut self.since else {
            let accepted = self.round.map_or(0.0, |round| round.accepted);
            self.since = Some(Throttled::first(now, reported.is_none().then(|| accepted.max(GUESS_MIN))));
            // Recipients accepted earlier may have been the bucket's burst.
            self.round = None;
            return;
        };
        if since.burst > EVEN_SECONDS {
            (since.burst_refused, since.burst) = (since.burst, EVEN_SECONDS);
        } else if since.settled
            && began > since.fell
            && self.in_a_row == 0
            && let Some(rate) = since.rate.or(reported)
        {
            since.ceiling = Some(rate);
            since.rate = Some((rate * LITTLE_LESS).max(least(reported)));
        }
        since.at = now;
        if since.settled {
            (since.growth, since.growth_grown) = (GROWTH_MIN, now);
        }
    }

    fn count(&mut self, now: Instant, began: Instant, more: Round, reported: Option<f64>) {
        if self.since.is_some_and(|since| began <= since.fell) {
            return;
        }
        let fast = self.since.is_some_and(|since| since.is_far_below(reported));
        let wanted = if fast { ROUND_RECIPIENTS_FAST } else { ROUND_RECIPIENTS };
        let round = self.round.get_or_insert(Round::new(now));
        round.accepted += more.accepted;
        round.throttled += more.throttled;
        round.events += more.events;
        let age = now.saturating_duration_since(round.began);
        if age < ROUND_MIN || (age < ROUND_MAX && round.accepted + round.throttled < wanted) {
            return;
        }
        let over = std::mem::replace(round, Round::new(now));
        if let Some(since) = &mut self.since {
            since.judge(now, over, reported);
        }
    }
}

/// The minimum rate, in recipients per second.
fn least(reported: Option<f64>) -> f64 {
    reported.map_or(RATE_MIN, |reported| reported * MIN_OF_REPORTED)
}

impl Round {
    fn new(began: Instant) -> Self {
        Self { began, accepted: 0.0, throttled: 0.0, events: 0 }
    }
}

impl Throttled {
    fn first(now: Instant, rate: Option<f64>) -> Self {
        Self {
            rate,
            ceiling: None,
            proven: None,
            settled: false,
            too_high: false,
            growth: GROWTH_MIN,
            burst: EVEN_SECONDS,
            burst_refused: BURST_SECONDS,
            fell: now,
            at: now,
            burst_grown: now,
            growth_grown: now,
        }
    }

    /// The provider's rate, as far as it is known.
    fn known(&self) -> Option<f64> {
        self.ceiling.map(|ceiling| self.proven.map_or(ceiling, |proven| ceiling.max(proven)))
    }

    fn is_far_below(&self, reported: Option<f64>) -> bool {
        self.rate.or(reported).is_some_and(|rate| self.known().is_none_or(|known| rate < known * FAR_BELOW))
    }

    /// Evaluates a round that has ended.
    fn judge(&mut self, now: Instant, round: Round, reported: Option<f64>) {
        let Some(rate) = self.rate.or(reported) else { return };
        let seconds = now.saturating_duration_since(round.began).as_secs_f64();
        let goodput = round.accepted / seconds;
        let too_high = round.events >= EVENTS && round.throttled > FEW_RECIPIENTS && rate > goodput * FAR_TOO_HIGH;
        if round.accepted == 0.0 {
            (self.proven, self.ceiling) = (None, None);
        } else if too_high && self.too_high {
            // The provider accepted less than the proven rate.
            self.proven = None;
        }
        (self.too_high, self.settled) = (too_high, !too_high);
        let next = if round.throttled == 0.0 {
            self.grown(now, rate, goodput, seconds, reported)
        } else if round.accepted == 0.0 {
            rate * NOTHING_ACCEPTED
        } else if too_high {
            (self.ceiling, self.fell, self.growth) = (Some(goodput * CEILING), now, GROWTH_GUESSED);
            let proven = self.proven.unwrap_or_default() * OF_PROVEN;
            (goodput * OF_ACCEPTED).max(proven).max(rate * LEAST).min(rate)
        } else {
            rate
        };
        self.rate = Some(next.max(least(reported))).filter(|rate| reported.is_none_or(|reported| *rate < reported));
    }

    /// The rate after a round without a throttle.
    fn grown(&mut self, now: Instant, rate: f64, goodput: f64, seconds: f64, reported: Option<f64>) -> f64 {
        if goodput < rate * USED {
            return rate;
        }
        self.proven = Some(rate);
        if self.is_far_below(reported) {
            return self.known().map_or(rate * FAST, |known| (rate * FAST).min((rate + known) / 2.0));
        }
        let most = if self.known().is_some_and(|known| rate > known * FAR_ABOVE) { GROWTH_MAX } else { GROWTH_NEAR };
        if now.saturating_duration_since(self.growth_grown) >= Duration::from_secs(1) {
            (self.growth, self.growth_grown) = ((self.growth * 2.0).min(most), now);
        }
        rate * (1.0 + self.growth * seconds)
    }
}
