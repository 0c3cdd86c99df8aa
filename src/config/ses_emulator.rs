//! `[ses_emulator]`: the account that the emulator simulates.

use super::number::{Count, Number};
use super::section::section;
use super::values::ConfigurationSet;
use crate::emulator::{self, AccountSettings, EmulatorSettings};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

section! {
    /// The account that the emulator simulates, used where ses.emulator is true.
    pub(crate) SesEmulator {
        /// A loopback IP:PORT; port 0 is any free one.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        /// A directory where accepted messages are stored as ID.eml and ID.json; created if missing, never emptied. Default:
        /// messages are kept in memory only.
        #[schemars(example = &"./var/ses-emulator")]
        directory: Option<PathBuf> = None,
        /// A list of verified domains and addresses. A domain covers its subdomains.
        identities: Vec<String> = vec!["example.com".to_owned()],
        /// A list of names of configuration sets that exist.
        configuration_sets: Vec<ConfigurationSet> = ["gatepost-dev".parse().ok()].into_iter().flatten().collect(),
        /// Milliseconds by which every call is delayed.
        latency_milliseconds: Number<0, 600_000> = Number::of(0),
        /// true or false: an account without production access, which may send to verified identities only; with a rate of 1
        /// and a quota of 200 where none is set.
        sandbox: bool = false,
        /// Recipients a second; above it SES throttles. Default: no limit.
        #[schemars(example = 14.0)]
        recipients_per_second_max: Option<f64> = None,
        /// Recipients at once: the size of SES's token bucket, which AWS does not publish. Default: those of one second.
        #[schemars(example = 14)]
        recipients_at_once_max: Option<Count> = None,
        /// Recipients in 24 hours. Default: no limit.
        #[schemars(example = 50_000)]
        recipients_per_day_max: Option<Count> = None,
    } []
}

impl SesEmulator {
    /// The settings of the emulator.
    pub(crate) fn settings(&self, region: Option<&str>) -> EmulatorSettings {
        let base = if self.sandbox { AccountSettings::sandbox() } else { AccountSettings::default() };
        let account = AccountSettings {
            recipients_per_second_max: self.recipients_per_second_max.or(base.recipients_per_second_max),
            recipients_at_once_max: self.recipients_at_once_max.map(Number::small),
            recipients_per_day_max: self.recipients_per_day_max.map(Number::small).or(base.recipients_per_day_max),
            ..base
        };
        let defaults = EmulatorSettings::default();
        EmulatorSettings {
            listen: self.listen,
            region: region.map_or(defaults.region, str::to_owned),
            identities: self.identities.iter().map(emulator::Identity::verified).collect(),
            configuration_sets: self
                .configuration_sets
                .iter()
                .map(|name| (name.to_string(), emulator::ConfigurationSet::default()))
                .collect(),
            account,
            directory: self.directory.clone(),
            latency: Duration::from_millis(self.latency_milliseconds.get()),
            ..EmulatorSettings::default()
        }
    }
}
