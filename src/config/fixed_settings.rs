//! The settings that a running relay cannot change: they need a restart.

use super::Config;
use super::spool::SpoolPlan;
use super::upstream::Upstream;
use std::path::PathBuf;

/// These settings, in a form that can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FixedSettings(Vec<(&'static str, String)>);

impl FixedSettings {
    pub(super) fn of(
        config: &Config,
        upstream: &Upstream,
        state_directory: Option<&PathBuf>,
        spool: Option<&SpoolPlan>,
    ) -> Self {
        let emulator = match upstream {
            Upstream::Amazon(_) => String::new(),
            Upstream::Emulator(setup) => format!("{:?}", setup.emulator),
        };
        // With Redis, relays of one region share one count of the rate.
        let region = config.redis.url.as_ref().and(config.ses.region.as_ref());
        Self(vec![
            ("admin.address", format!("{:?}", config.admin.address)),
            ("admin.decisions_max", format!("{:?}", config.admin.decisions_max)),
            ("limits.state_directory", format!("{state_directory:?}")),
            ("log", format!("{:?}", config.log)),
            ("memory", format!("{:?}", config.memory)),
            ("redis", format!("{:?}", config.redis)),
            ("ses.emulator", emulator),
            ("ses.region", format!("{region:?}")),
            ("spool", format!("{spool:?}")),
        ])
    }

    /// The first key whose settings differ.
    pub(crate) fn differs(&self, other: &Self) -> Option<&'static str> {
        self.0.iter().zip(&other.0).find(|(one, other)| one != other).map(|((key, _), _)| *key)
    }
}
