//! What a dialogue's listener offers, as the server's settings. For both drivers.

use super::transcript::{Auth, ListenerSettings, Tls};
use gatepost::smtp::{AuthMode, LineEndings, Settings, TlsMode};
use std::time::Duration;

pub(crate) fn settings(wanted: &ListenerSettings) -> Settings {
    let mut settings = Settings::new("relay.example");
    settings.tls = match wanted.tls {
        Tls::None => TlsMode::None,
        Tls::OnRequest => TlsMode::StartTls,
        Tls::Implicit => TlsMode::Implicit,
    };
    settings.require_tls = wanted.require_tls;
    settings.auth = match wanted.auth {
        Auth::Off => AuthMode::Off,
        Auth::Optional => AuthMode::Optional,
        Auth::Required => AuthMode::Required,
        Auth::Any => AuthMode::Any,
    };
    settings.auth_in_clear = wanted.auth_in_clear;
    settings.line_endings = if wanted.normalize { LineEndings::Normalize } else { LineEndings::Refuse };
    let limits = &mut settings.limits;
    let small = |wanted: Option<u64>, default: u32| wanted.map_or(default, |number| u32::try_from(number).unwrap());
    limits.message_octets_max = wanted.message_octets_max.unwrap_or(limits.message_octets_max);
    limits.recipients_max = wanted.recipients_max.map_or(limits.recipients_max, |n| usize::try_from(n).unwrap());
    limits.transactions_max = small(wanted.transactions_max, limits.transactions_max);
    limits.commands_max = small(wanted.commands_max, limits.commands_max);
    limits.errors_max = small(wanted.errors_max, limits.errors_max);
    limits.auth_failures_max = small(wanted.auth_failures_max, limits.auth_failures_max);
    limits.session_max = wanted.session_seconds_max.map_or(limits.session_max, Duration::from_secs);
    settings
}
