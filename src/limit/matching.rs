//! What a step costs in each limit, and the reply if a limit is exceeded. Shared by the local and the Redis limiter.

use super::rule::{LimitKey, LimitRule, Measure, OnExceeded};
use super::{LimitDecision, LimitStage, LimitStanding, LimitStatus, LimitStep, STANDINGS_MAX};
use crate::mail::client::network_of;
use crate::mail::parameters::AppName;
use crate::mail::{ClientAddress, Reply, replies};
use siphasher::sip128::{Hasher128, SipHasher13};
use smallvec::SmallVec;
use std::fmt::Display;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::time::Duration;

/// The limits with their precomputed hash seeds.
#[derive(Debug)]
pub(super) struct ActiveLimits {
    rules: Vec<ActiveLimit>,
    keying: KeyHash,
}

#[derive(Debug)]
struct ActiveLimit {
    rule: LimitRule,
    /// Part of every key of this limit. Derived from the limit's name, so that counts survive a reordered configuration
    /// file.
    seed: u64,
}

/// The amount that a step takes from one window of one limit for one key, and that a refund returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) rule: u16,
    pub(super) window: u16,
    pub(super) amount: NonZeroU32,
    pub(super) key: u128,
}

/// What one step costs. Few limits have more than four windows that apply to one step.
pub(super) type Charges = SmallVec<[Charge; 4]>;

/// The exceeded window of a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExceededWindow {
    pub(super) rule: u16,
    /// `None`: the amount is larger than the window and never fits.
    pub(super) wait: Option<Duration>,
}

/// Converts facts to keys with a hash, so that no address is stored a second time in memory, on disk or in Redis.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyHash {
    /// A keyed hash, for counts of one process.
    Own(Keys),
    /// A hash of the printed form of a fact, for counts that processes and versions share: they must derive the same
    /// keys without sharing a secret. It is wide and hard to invert, so that clients cannot choose colliding facts.
    #[cfg(feature = "redis")]
    Shared,
}

impl From<Keys> for KeyHash {
    fn from(keys: Keys) -> Self {
        Self::Own(keys)
    }
}

impl KeyHash {
    fn of(self, seed: u64, fact: &(impl Hash + Display + ?Sized)) -> u128 {
        match self {
            Self::Own(keys) => keys.of(seed, fact),
            #[cfg(feature = "redis")]
            Self::Shared => digest(seed, fact),
        }
    }
}

/// SHA-256, truncated to 128 bits.
#[cfg(feature = "redis")]
fn digest(seed: u64, fact: &(impl Display + ?Sized)) -> u128 {
    use aws_lc_rs::digest::{Context, SHA256};
    struct Writer(Context);
    impl std::fmt::Write for Writer {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.update(text.as_bytes());
            Ok(())
        }
    }
    let mut writer = Writer(Context::new(&SHA256));
    writer.0.update(&seed.to_be_bytes());
    // Neither the writer nor the `Display` of these facts returns an error.
    let _ = std::fmt::Write::write_fmt(&mut writer, format_args!("{fact}"));
    writer.0.finish().as_ref().iter().take(16).fold(0, |key, octet| key << 8 | u128::from(*octet))
}

/// A keyed hash, so that clients cannot choose facts whose counters collide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys(pub(super) [u64; 2]);

impl Keys {
    pub(super) fn of(self, seed: u64, fact: &(impl Hash + ?Sized)) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.0[0], self.0[1]);
        hasher.write_u64(seed);
        fact.hash(&mut hasher);
        let hash = hasher.finish128();
        u128::from(hash.h1) << 64 | u128::from(hash.h2)
    }
}

impl ActiveLimits {
    pub(super) fn new(rules: Vec<LimitRule>, keying: impl Into<KeyHash>) -> Self {
        let keying = keying.into();
        let seed = |rule: &LimitRule| keying.of(0, rule.name.as_str()) as u64;
        Self { rules: rules.into_iter().map(|rule| ActiveLimit { seed: seed(&rule), rule }).collect(), keying }
    }

    pub(super) fn get(&self, index: u16) -> &LimitRule {
        &self.rules[usize::from(index)].rule
    }

    /// Other rules with the same keys.
    pub(super) fn with_rules(&self, rules: Vec<LimitRule>) -> Self {
        Self::new(rules, self.keying)
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &LimitRule> {
        self.rules.iter().map(|active| &active.rule)
    }

    /// What a step costs.
    pub(super) fn charges(&self, step: &LimitStep<'_>) -> Charges {
        let mut charges = Charges::new();
        for (index, active) in (0u16..).zip(&self.rules) {
            let rule = &active.rule;
            let Some(amount) = amount(rule, step) else { continue };
            let Some(key) = self.key(active, step) else { continue };
            charges.extend((0u16..).zip(&rule.windows).map(|(window, _)| Charge { rule: index, window, amount, key }));
        }
        charges
    }

    fn key(&self, ActiveLimit { rule, seed }: &ActiveLimit, step: &LimitStep<'_>) -> Option<u128> {
        let app = step.granted.app.as_ref();
        if !rule.apps.is_empty() && !app.is_some_and(|app| rule.apps.contains(app)) {
            return None;
        }
        let (seed, keys) = (*seed, self.keying);
        Some(match rule.by {
            LimitKey::App => keys.of(seed, app?.as_str()),
            LimitKey::Identity => keys.of(seed, step.client.identity.as_ref()?.name()),
            LimitKey::Client { ipv4_prefix, ipv6_prefix } => {
                let ClientAddress::Ip(address) = step.client.address else { return None };
                keys.of(seed, &network_of(address.ip(), ipv4_prefix, ipv6_prefix)?)
            }
            LimitKey::ReversePath => keys.of(seed, step.reverse_path.mailbox()?),
            LimitKey::Author => match step.stage {
                LimitStage::Message { author, .. } => keys.of(seed, author),
                // At MAIL the author is unknown. Only whether the size can ever fit is checked, against an empty
                // counter.
                LimitStage::Declared(_) => 0,
                LimitStage::Mail | LimitStage::Rcpt(_) => return None,
            },
            LimitKey::RecipientDomain => match step.stage {
                LimitStage::Rcpt(path) => keys.of(seed, path.mailbox().domain()),
                LimitStage::Mail | LimitStage::Declared(_) | LimitStage::Message { .. } => return None,
            },
            LimitKey::Relay => keys.of(seed, ""),
        })
    }

    /// The decision and reply for an exceeded window.
    pub(super) fn over(&self, exceeded: ExceededWindow, stage: &LimitStage<'_>) -> LimitDecision {
        let limit = self.get(exceeded.rule).name.clone();
        LimitDecision::Over { limit, reply: self.reply(exceeded, stage), wait: exceeded.wait }
    }

    fn reply(&self, exceeded: ExceededWindow, stage: &LimitStage<'_>) -> Reply {
        let rule = self.get(exceeded.rule);
        match (exceeded.wait, rule.measure, rule.over) {
            (None, Measure::Octets, _) => replies::MESSAGE_TOO_LARGE,
            // A client that splits the recipients over several messages succeeds: the recipients before this one are
            // sent.
            (_, Measure::Recipients, OnExceeded::Defer | OnExceeded::Delay(_))
                if matches!(stage, LimitStage::Rcpt(_)) =>
            {
                let seconds = exceeded.wait.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
                let when = seconds.map(|seconds| format!(", try again in {seconds} s")).unwrap_or_default();
                replies::TOO_MANY_RECIPIENTS
                    .with_text(&format!("Too many recipients for now: rate limit reached{when}"))
            }
            (_, _, OnExceeded::Reject) => replies::RATE_LIMIT_EXCEEDED,
            (wait, ..) => rate_limited(wait),
        }
    }

    /// The windows that apply to a step. `left` returns the remaining amount of each.
    pub(super) fn views(&self, step: &LimitStep<'_>, left: impl Fn(&Charge) -> u64) -> Vec<LimitStatus> {
        let view = |index: u16, window: u16, key: u128, needs: u64, left: u64| {
            let rule = self.get(index);
            let window = rule.windows[usize::from(window)];
            let never = needs > u64::from(window.capacity().get());
            let exceeded = ExceededWindow {
                rule: index,
                wait: if never { None } else { window.wait(needs.saturating_sub(left)) },
            };
            LimitStatus {
                limit: rule.name.clone(),
                window,
                key: key as u64,
                left,
                needs,
                over: self.reply(exceeded, &step.stage),
            }
        };
        let view =
            |charge: &Charge| view(charge.rule, charge.window, charge.key, charge.amount.get().into(), left(charge));
        self.charges(step).iter().map(view).collect()
    }

    /// The windows that count all messages of one of these applications, or all messages of the relay.
    pub(super) fn standing(&self, apps: &[AppName]) -> Vec<(Charge, Option<AppName>)> {
        let mut all = Vec::new();
        for (index, ActiveLimit { rule, seed }) in (0u16..).zip(&self.rules) {
            let mut counts = |app: Option<&AppName>| {
                let key = self.keying.of(*seed, app.map_or("", AppName::as_str));
                let amount = NonZeroU32::MIN;
                let charge = |window| Charge { rule: index, window, amount, key };
                all.extend((0u16..).zip(&rule.windows).map(|(window, _)| (charge(window), app.cloned())));
            };
            match rule.by {
                LimitKey::Relay => counts(None),
                LimitKey::App => {
                    let counted = |app: &&AppName| rule.apps.is_empty() || rule.apps.contains(*app);
                    apps.iter().filter(counted).for_each(|app| counts(Some(app)));
                }
                _ => {}
            }
        }
        all.truncate(STANDINGS_MAX);
        all
    }

    /// The same windows with their remaining amounts.
    pub(super) fn standings(&self, standing: Vec<(Charge, Option<AppName>)>, left: &[u64]) -> Vec<LimitStanding> {
        let standing_of = |((charge, app), left): ((Charge, Option<AppName>), &u64)| {
            let rule = self.get(charge.rule);
            let window = rule.windows[usize::from(charge.window)];
            LimitStanding { limit: rule.name.clone(), app, window, left: *left }
        };
        standing.into_iter().zip(left).map(standing_of).collect()
    }

    /// The longest time that a step may wait for capacity, where the limit is `Delay`.
    pub(super) fn delay_max(&self, exceeded: ExceededWindow) -> Duration {
        match self.get(exceeded.rule).over {
            OnExceeded::Delay(most) => most,
            OnExceeded::Defer | OnExceeded::Reject => Duration::ZERO,
        }
    }
}

fn rate_limited(wait: Option<Duration>) -> Reply {
    match wait {
        None | Some(Duration::ZERO) => replies::RATE_LIMITED,
        Some(wait) => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            replies::RATE_LIMITED.with_text(&format!("Rate limit reached, try again in {seconds} s"))
        }
    }
}

/// When the messages and recipients of a key are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CountedAt {
    /// At MAIL and at each RCPT.
    Commands,
    /// At the end of data, when the key is known.
    Message,
}

impl LimitKey {
    /// One row for each key, without a wildcard, so that a new key does not compile without a row.
    const fn counted_at(self) -> CountedAt {
        match self {
            Self::App
            | Self::Identity
            | Self::Client { .. }
            | Self::ReversePath
            | Self::RecipientDomain
            | Self::Relay => CountedAt::Commands,
            Self::Author => CountedAt::Message,
        }
    }
}

/// What a step costs in the measure of a limit. `None`: nothing.
fn amount(rule: &LimitRule, step: &LimitStep<'_>) -> Option<NonZeroU32> {
    // A count above `u32::MAX` is larger than any burst and is refused as such.
    let large = |count: u64| NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX));
    let one = NonZeroU32::new(1);
    match (rule.measure, step.stage, rule.by.counted_at()) {
        (Measure::Messages, LimitStage::Mail, CountedAt::Commands) => one,
        (Measure::Messages, LimitStage::Message { .. }, CountedAt::Message) => one,
        (Measure::Recipients, LimitStage::Rcpt(_), CountedAt::Commands) => one,
        (Measure::Recipients, LimitStage::Message { recipients, .. }, CountedAt::Message) => large(recipients as u64),
        (Measure::Octets, LimitStage::Message { octets, .. } | LimitStage::Declared(octets), _) => large(octets),
        (Measure::Messages | Measure::Recipients, ..)
        | (Measure::Octets, LimitStage::Mail | LimitStage::Rcpt(_), _) => None,
    }
}
