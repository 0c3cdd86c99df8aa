//! What the provider's throttling teaches: how many recipients a second it takes, and how many at once.
//!
//! A token bucket at the provider has two numbers, and the account tells at most one of them, not always the right one. After
//! the first throttle messages are released evenly. The burst grows again while nothing is throttled, up to half of what was
//! refused last. The rate falls a little at each throttle. Beside that it is looked at in rounds: one that the rate was far
//! too high for sets it to what got through, one that used all of it without a throttle raises it, fast while it is far
//! below the rate that was throttled last, and slowly near that. A simulation (`relay/throttle_tests.rs`) holds the figures:
//! at most one call in twenty is throttled, and nearly all of the provider's rate is used. A pure calculation: time is an
//! argument.

use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(super) struct Learned {
    /// `None`: no throttle, or none for a long time.
    since: Option<Throttled>,
    round: Option<Round>,
    /// Throttles since the last message that went through.
    in_a_row: u32,
}

/// What is known since the first throttle.
#[derive(Clone, Copy, Debug)]
struct Throttled {
    /// Recipients a second; `None`: as many as are told.
    rate: Option<f64>,
    /// The rate that was throttled last, or a guess of it.
    ceiling: Option<f64>,
    /// The rate of the last round without a throttle.
    proven: Option<f64>,
    /// A round has ended since the rate fell far, or was guessed: until then, a throttle is a consequence of what was before.
    settled: bool,
    /// The rate was far too high in the last round.
    too_high: bool,
    /// Growth a second near the ceiling; it doubles with every second without a throttle.
    growth: f64,
    /// What may go at once, as seconds of the rate.
    burst: f64,
    burst_refused: f64,
    /// The rate fell far, or is new: calls that were under way then say nothing of it.
    fell: Instant,
    /// The last throttle, and when burst and growth were doubled last.
    at: Instant,
    burst_grown: Instant,
    growth_grown: Instant,
}

/// Recipients accepted and throttled since then.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    accepted: f64,
    throttled: f64,
    /// Throttles of calls that were not under way at the one before.
    events: u32,
}

/// What may go at once before the first throttle, and the most after it, as seconds of the rate.
const BURST_SECONDS: f64 = 0.5;
/// The same after a throttle: enough for timers that are late by some milliseconds.
const EVEN_SECONDS: f64 = 0.01;
/// The burst doubles after so long without a throttle.
const BURST_GROWS: Duration = Duration::from_secs(30);
/// All is forgotten after this long without a throttle.
pub(super) const LEARNED: Duration = Duration::from_secs(600);

/// A round takes at least so long, and has so many recipients (the fewer where the rate is far too low) or takes as long as
/// the last says.
const ROUND_MIN: Duration = Duration::from_millis(250);
const ROUND_RECIPIENTS: f64 = 16.0;
const ROUND_RECIPIENTS_FAST: f64 = 4.0;
const ROUND_MAX: Duration = Duration::from_secs(2);

/// What is kept of the rate at a throttle. Just above the rate of a bucket of one every second call is throttled, so this is
/// done at once.
const LITTLE_LESS: f64 = 0.985;
/// The rate is far too high if it is so many times what got through, with so many throttles of so many recipients. A bucket of
/// one loses half of its rate to throttles by itself.
const FAR_TOO_HIGH: f64 = 2.0;
const EVENTS: u32 = 3;
const FEW_RECIPIENTS: f64 = 3.0;
/// Then the rate is this part of what got through, but at least these parts of what was proven and of itself; and the
/// provider's rate may be so many times what got through.
const OF_ACCEPTED: f64 = 0.98;
const OF_PROVEN: f64 = 0.97;
const LEAST: f64 = 0.25;
const CEILING: f64 = 1.6;
/// The part of the rate that is kept after a round in which nothing got through.
const NOTHING_ACCEPTED: f64 = 0.5;
/// The least that is tried in any case: a part of what is told, or recipients a second.
const LEAST_OF_TOLD: f64 = 0.02;
const RATE_MIN: f64 = 0.1;
/// The first guess where no rate is told: what was accepted in the round, at least this.
const GUESS_MIN: f64 = 10.0;

/// A round uses the rate if so much of it is accepted.
const USED: f64 = 0.7;
/// Far below the ceiling, the rate grows by this factor a round.
const FAST: f64 = 1.5;
const FAR_BELOW: f64 = 0.9;
/// Growth a second just after a throttle, after a ceiling was guessed, the fastest near the ceiling, and the fastest where the
/// ceiling was wrong.
const GROWTH_MIN: f64 = 0.0025;
const GROWTH_GUESSED: f64 = 0.04;
const GROWTH_NEAR: f64 = 0.1;
const GROWTH_MAX: f64 = 0.3;
const FAR_ABOVE: f64 = 1.1;

/// The first pause after a throttle, as recipients: with a longer one, a small bucket is full before the next call.
const PAUSE_RECIPIENTS: f64 = 0.1;
/// The shortest pause and the longest one; doubling in between while nothing gets through.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl Learned {
    /// Recipients a second; `told`: the rate of GetAccount or of the settings.
    pub(super) fn rate(&mut self, now: Instant, told: Option<f64>) -> Option<f64> {
        if self.since.is_some_and(|since| now.saturating_duration_since(since.at) > LEARNED) {
            *self = Self::default();
        }
        match (self.since.and_then(|since| since.rate), told) {
            (Some(rate), Some(told)) => Some(rate.min(told)),
            (rate, told) => rate.or(told),
        }
    }

    /// Recipients that may go at once, at that rate.
    pub(super) fn burst(&self, rate: f64) -> f64 {
        self.since.map_or(BURST_SECONDS, |since| since.burst) * rate
    }

    /// Whether throttling has lowered the rate.
    pub(super) fn is_slowed(&self, told: Option<f64>) -> bool {
        let rate = self.since.and_then(|since| since.rate);
        rate.is_some_and(|rate| told.is_none_or(|told| rate < told))
    }

    /// Throttles since the last message that went through.
    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// A call that began then was accepted.
    pub(super) fn accepted(&mut self, now: Instant, began: Instant, recipients: f64, told: Option<f64>) {
        self.in_a_row = 0;
        self.count(now, began, Round { accepted: recipients, ..Round::new(now) }, told);
        if let Some(since) = &mut self.since
            && now.saturating_duration_since(since.at.max(since.burst_grown)) >= BURST_GROWS
        {
            since.burst = (since.burst * 2.0).min(since.burst_refused / 2.0).max(since.burst);
            since.burst_grown = now;
        }
    }

    /// A call that began then was throttled. The pause for everybody; none if the call was under way at the last throttle,
    /// and says nothing new.
    pub(super) fn throttled(
        &mut self,
        now: Instant,
        began: Instant,
        recipients: f64,
        told: Option<f64>,
    ) -> Option<Duration> {
        let is_new = self.since.is_none_or(|since| began > since.at);
        if is_new {
            self.lower(now, began, told);
        }
        let more = Round { throttled: recipients, events: u32::from(is_new), ..Round::new(now) };
        self.count(now, began, more, told);
        if !is_new {
            return None;
        }
        let rate = self.rate(now, told).unwrap_or(GUESS_MIN);
        let first = Duration::from_secs_f64(PAUSE_RECIPIENTS / rate.max(RATE_MIN)).clamp(PAUSE_MIN, PAUSE_MAX);
        let pause = first.saturating_mul(2_u32.pow(self.in_a_row.min(15))).min(PAUSE_MAX);
        self.in_a_row = self.in_a_row.saturating_add(1);
        Some(pause)
    }

    /// Evenly from now on; and where that is so already, a little slower.
    fn lower(&mut self, now: Instant, began: Instant, told: Option<f64>) {
        let Some(since) = &mut self.since else {
            let accepted = self.round.map_or(0.0, |round| round.accepted);
            self.since = Some(Throttled::first(now, told.is_none().then(|| accepted.max(GUESS_MIN))));
            // What was accepted before may have been in the bucket.
            self.round = None;
            return;
        };
        if since.burst > EVEN_SECONDS {
            (since.burst_refused, since.burst) = (since.burst, EVEN_SECONDS);
        } else if since.settled
            && began > since.fell
            && self.in_a_row == 0
            && let Some(rate) = since.rate.or(told)
        {
            since.ceiling = Some(rate);
            since.rate = Some((rate * LITTLE_LESS).max(least(told)));
        }
        since.at = now;
        if since.settled {
            (since.growth, since.growth_grown) = (GROWTH_MIN, now);
        }
    }

    fn count(&mut self, now: Instant, began: Instant, more: Round, told: Option<f64>) {
        if self.since.is_some_and(|since| began <= since.fell) {
            return;
        }
        let fast = self.since.is_some_and(|since| since.is_far_below(told));
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
            since.judge(now, over, told);
        }
    }
}

/// Recipients a second that are tried in any case.
fn least(told: Option<f64>) -> f64 {
    told.map_or(RATE_MIN, |told| told * LEAST_OF_TOLD)
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

    /// What the provider takes, as far as is known.
    fn known(&self) -> Option<f64> {
        self.ceiling.map(|ceiling| self.proven.map_or(ceiling, |proven| ceiling.max(proven)))
    }

    fn is_far_below(&self, told: Option<f64>) -> bool {
        self.rate.or(told).is_some_and(|rate| self.known().is_none_or(|known| rate < known * FAR_BELOW))
    }

    /// The round is over.
    fn judge(&mut self, now: Instant, round: Round, told: Option<f64>) {
        let Some(rate) = self.rate.or(told) else { return };
        let seconds = now.saturating_duration_since(round.began).as_secs_f64();
        let goodput = round.accepted / seconds;
        let too_high = round.events >= EVENTS && round.throttled > FEW_RECIPIENTS && rate > goodput * FAR_TOO_HIGH;
        if round.accepted == 0.0 {
            (self.proven, self.ceiling) = (None, None);
        } else if too_high && self.too_high {
            // Less than was proven once.
            self.proven = None;
        }
        (self.too_high, self.settled) = (too_high, !too_high);
        let next = if round.throttled == 0.0 {
            self.grown(now, rate, goodput, seconds, told)
        } else if round.accepted == 0.0 {
            rate * NOTHING_ACCEPTED
        } else if too_high {
            (self.ceiling, self.fell, self.growth) = (Some(goodput * CEILING), now, GROWTH_GUESSED);
            let proven = self.proven.unwrap_or_default() * OF_PROVEN;
            (goodput * OF_ACCEPTED).max(proven).max(rate * LEAST).min(rate)
        } else {
            rate
        };
        self.rate = Some(next.max(least(told))).filter(|rate| told.is_none_or(|told| *rate < told));
    }

    /// The rate after a round without a throttle.
    fn grown(&mut self, now: Instant, rate: f64, goodput: f64, seconds: f64, told: Option<f64>) -> f64 {
        if goodput < rate * USED {
            return rate;
        }
        self.proven = Some(rate);
        if self.is_far_below(told) {
            return self.known().map_or(rate * FAST, |known| (rate * FAST).min((rate + known) / 2.0));
        }
        let most = if self.known().is_some_and(|known| rate > known * FAR_ABOVE) { GROWTH_MAX } else { GROWTH_NEAR };
        if now.saturating_duration_since(self.growth_grown) >= Duration::from_secs(1) {
            (self.growth, self.growth_grown) = ((self.growth * 2.0).min(most), now);
        }
        rate * (1.0 + self.growth * seconds)
    }
}
