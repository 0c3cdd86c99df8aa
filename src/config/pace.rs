//! `[pace]`: the send rate of all applications together, and how they share it.

use super::Config;
use super::diagnostics::Diagnostics;
use super::number::{Count, Number, SecondsOrZero};
use super::section::section;
use crate::limit::PaceSettings;
use crate::mail::parameters::AppName;
use crate::relay::{AppConnectionLimits, AppShare, SendQueueSettings};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

section! {
    /// The send rate of all applications together: slightly below the maximum send rate of the SES account, which GetAccount
    /// returns.
    pub(crate) PaceSection {
        /// Recipients a second, a number above 0. The rate where GetAccount may not be called, and the upper limit where it
        /// may. Default: the account's rate; without that, no limit until SES throttles.
        #[schemars(example = 14.0)]
        recipients_per_second_max: Option<f64> = PaceSettings::default().recipients_per_second_max,
        /// Percent of the rate that is used; the rest is for other senders of the account.
        percent: Number<1, 100> = Number::of(PaceSettings::default().percent.into()),
        /// How many relays share the account without `[redis]`: each uses its part of the rate.
        instances: Count = Number::of(PaceSettings::default().instances.get().into()),
        /// Seconds between calls of GetAccount, which need the permission ses:GetAccount; 0: it is never called.
        account_seconds: SecondsOrZero = Number::of(300),
        /// Concurrent calls to SES.
        calls_max: Number<1, 100_000> = Number::of(SendQueueSettings::default().calls_max as u64),
    } []
}

impl PaceSection {
    /// The pace of the limiter.
    pub(crate) fn settings(&self) -> PaceSettings {
        PaceSettings {
            recipients_per_second_max: self.recipients_per_second_max,
            percent: self.percent.small(),
            instances: NonZeroU32::new(self.instances.small()).unwrap_or(NonZeroU32::MIN),
        }
    }

    /// How often GetAccount is called.
    pub(crate) fn account_interval(&self) -> Option<Duration> {
        Some(self.account_seconds.wait()).filter(|wait| !wait.is_zero())
    }
}

/// Shares and connections of the applications.
pub(super) fn plan(config: &Config, diagnostics: &mut Diagnostics<'_>) -> (SendQueueSettings, AppConnectionLimits) {
    if config.pace.recipients_per_second_max.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        diagnostics.error("pace.recipients_per_second_max", "the rate must be a number above 0", "for example: 14.0");
    }
    let mut shares: HashMap<AppName, AppShare> = HashMap::new();
    let mut by_app: HashMap<AppName, usize> = HashMap::new();
    let mut promised = 0.0;
    for (index, app) in config.app.iter().enumerate() {
        let least = app.recipients_per_second_min.unwrap_or_default();
        if !least.is_finite() || least < 0.0 {
            let message = "the guaranteed rate must be a number, 0 or more";
            diagnostics.error(&format!("app.{index}.recipients_per_second_min"), message, "for example: 2.0");
        }
        promised += least;
        let Some(name) = &app.name else { continue };
        let weight = app.weight.get() as f64;
        shares.insert(name.0.clone(), AppShare { weight, recipients_per_second_min: least });
        if let Some(most) = app.connections_max {
            by_app.insert(name.0.clone(), most.size());
        }
    }
    let rate = config.pace.recipients_per_second_max.map(|rate| rate * config.pace.percent.get() as f64 / 100.0);
    if let Some(rate) = rate.filter(|rate| promised > *rate) {
        let message = format!("{promised} recipients/s are guaranteed to applications, but the rate is {rate}");
        diagnostics.error("pace.recipients_per_second_max", message, "guarantee less in recipients_per_second_min");
    }
    let each_max = config.connections.per_app_max.map(Number::size);
    (SendQueueSettings { calls_max: config.pace.calls_max.size(), shares }, AppConnectionLimits { each_max, by_app })
}
