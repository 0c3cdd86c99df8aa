//! The upstream that messages are sent to: Amazon SES, or the emulator in its place.

use super::diagnostics::{Diagnostics, Item};
use super::{Config, region};
use crate::emulator::{Credential, EmulatorSettings};
use crate::mail::parameters::RoleArn;
use crate::transport::ses::{RoleSettings, SesSettings, SesTimeouts, StaticCredentials};
use std::collections::BTreeMap;

/// Where messages are sent.
#[derive(Debug)]
pub enum Upstream {
    /// Amazon SES.
    Amazon(Box<SesSettings>),
    /// An emulator, which the caller starts.
    Emulator(Box<EmulatorSetup>),
}

/// An emulator to start, and how to reach it then.
#[derive(Debug)]
pub struct EmulatorSetup {
    /// The account that it simulates.
    pub emulator: EmulatorSettings,
    timeouts: SesTimeouts,
    hide_error_text: bool,
    /// The roles that applications send as, each with its own key pair: the emulator has no STS.
    roles: Vec<RoleSettings>,
}

impl EmulatorSetup {
    /// How to reach it. Every setting is given, so the AWS SDK reads neither environment nor profile.
    pub fn ses(&self, endpoint_url: String) -> SesSettings {
        let pair = self.emulator.credentials.first().cloned().unwrap_or_default();
        SesSettings {
            region: Some(self.emulator.region.clone()),
            endpoint_url: Some(endpoint_url),
            credentials: Some(StaticCredentials {
                access_key_id: pair.access_key_id,
                secret_access_key: pair.secret_access_key,
            }),
            timeouts: self.timeouts,
            hide_error_text: self.hide_error_text,
            roles: self.roles.clone(),
            ..SesSettings::default()
        }
    }
}

/// The upstream, and settings of the two that contradict each other.
pub(super) fn plan(config: &Config, diagnostics: &mut Diagnostics<'_>) -> Upstream {
    let (ses, emulator) = (&config.ses, &config.ses_emulator);
    if !ses.emulator {
        check_amazon(config, diagnostics);
        let roles = roles(config, diagnostics);
        return Upstream::Amazon(Box::new(SesSettings { roles, ..ses.settings() }));
    }
    let unused = [
        ("profile", ses.profile.is_some()),
        ("assume_role", ses.assume_role.is_some()),
        ("external_id", ses.external_id.is_some()),
        ("endpoint_url", ses.endpoint_url.is_some()),
        ("fips", ses.fips),
        ("dual_stack", ses.dual_stack),
    ];
    for (key, _) in unused.iter().filter(|(_, set)| *set) {
        let message = format!("with ses.emulator nothing is sent to Amazon, so {key} has no effect");
        diagnostics.error(&format!("ses.{key}"), message, "remove one of them");
    }
    if !emulator.listen.ip().is_loopback() {
        diagnostics.error(
            "ses_emulator.listen",
            "the emulator listens on loopback only",
            "127.0.0.1:0 takes a free port",
        );
    }
    if emulator.recipients_per_second_max.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        let hint = "for example: recipients_per_second_max = 14.0";
        diagnostics.error("ses_emulator.recipients_per_second_max", "the rate must be a number above 0", hint);
    }
    let mut settings = emulator.settings(ses.region.as_deref());
    if let Some(account) = &config.aws.account {
        settings.account_id.clone_from(&account.0);
    }
    let mut roles = roles(config, diagnostics);
    for (index, role) in roles.iter_mut().enumerate() {
        let pair = StaticCredentials {
            access_key_id: format!("ASIAGATEPOSTROLE{index:04}"),
            secret_access_key: format!("no secret of {}", role.arn),
        };
        settings.credentials.push(Credential {
            access_key_id: pair.access_key_id.clone(),
            secret_access_key: pair.secret_access_key.clone(),
            session_token: None,
        });
        role.credentials = Some(pair);
    }
    Upstream::Emulator(Box::new(EmulatorSetup {
        emulator: settings,
        timeouts: ses.timeouts(),
        hide_error_text: !ses.error_text,
        roles,
    }))
}

/// Every role that an application sends as, once.
fn roles(config: &Config, diagnostics: &mut Diagnostics<'_>) -> Vec<RoleSettings> {
    let mut found: BTreeMap<RoleArn, Option<String>> = BTreeMap::new();
    for item in Item::all("app", &config.app) {
        let app = item.value;
        let Some(role) = &app.assume_role else { continue };
        let before = found.insert(role.0.clone(), app.external_id.clone());
        if before.is_some_and(|before| before != app.external_id) {
            let message = format!("another application assumes {role} with another external_id");
            diagnostics.error(&item.key("assume_role"), message, "one role has one external id");
        }
    }
    found.into_iter().map(|(arn, external_id)| RoleSettings { arn, external_id, credentials: None }).collect()
}

fn check_amazon(config: &Config, diagnostics: &mut Diagnostics<'_>) {
    region::check(config, diagnostics);
    let ses = &config.ses;
    if let Some(url) = &ses.endpoint_url {
        if ses.fips || ses.dual_stack {
            let hint = "write the URL of the FIPS or dual-stack endpoint itself";
            diagnostics.error("ses.endpoint_url", "endpoint_url cannot be combined with fips or dual_stack", hint);
        }
        let host = url.0.strip_prefix("http://").unwrap_or_default();
        let local = ["127.", "localhost", "[::1]"].iter().any(|name| host.starts_with(name));
        if !host.is_empty() && !local {
            diagnostics.warn("ses.endpoint_url", "mail goes to that endpoint without TLS", "use https://");
        }
    }
    if ses.external_id.is_some() && ses.assume_role.is_none() {
        diagnostics.error("ses.external_id", "external_id without assume_role", "it belongs to a role that is assumed");
    }
    if diagnostics.source_map().contains("ses_emulator") {
        let hint = "set ses.emulator = true, or remove them";
        diagnostics.warn("ses_emulator", "the settings of the emulator are not used", hint);
    }
}
