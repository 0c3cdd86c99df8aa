//! `[spool]`: where accepted mail is kept that is sent later.

use super::Config;
use super::app::App;
use super::diagnostics::{Diagnostics, Item};
use super::number::{Count, Octets, Seconds};
use super::rules::{Delivery, OnAmbiguous, Rules};
use super::section::section;
use super::values::TagNameText;
use crate::mail::parameters::AppName;
use crate::relay::{QueueSettings, RetrySettings};
use crate::spool::{DiskSpoolSettings, RECIPIENTS_PER_PART, SpoolLimits};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

section! {
    /// The spool: mail that is accepted with a 250 and sent later. It needs a disk that survives a restart.
    pub(crate) Spool {
        /// A directory on a local disk for one relay. It is created with mode 0700 if it is missing. Without it, there is no spool.
        #[schemars(example = &"/var/lib/gatepost/spool")]
        directory: Option<PathBuf> = None,
        /// Bytes of all messages in the spool; further messages receive 452. On disk, the spool may take twice as much, and
        /// 128 MiB. The default is 10 GiB.
        octets_max: Octets = Octets::of(SpoolLimits::default().octets_max),
        /// Messages in the spool; further ones receive 452. Each takes about 400 bytes of memory.
        messages_max: Count = Count::of(SpoolLimits::default().messages_max),
        /// Bytes of the messages of one application. Default: half of octets_max.
        #[schemars(example = 1_000_000_000)]
        app_octets_max: Option<Octets> = None,
        /// Messages of one application. Default: half of messages_max.
        #[schemars(example = 10_000)]
        app_messages_max: Option<Count> = None,
        /// Bytes of the file system that stay free: with less, messages receive 452. The default is 256 MiB.
        free_octets_min: Octets = Octets::of(256 << 20),
        /// Seconds that a message stays in the spool before it fails. The default is four days.
        expiry_seconds: Seconds = Seconds::seconds(RetrySettings::default().expiry),
        /// retry or hold: what happens to a message that may have been sent, because SES did not answer or the relay ended
        /// meanwhile. retry: it is sent again, and may arrive twice. hold: it waits until an operator decides.
        on_ambiguous: OnAmbiguous = OnAmbiguous::Retry,
        /// Seconds that hand-off-else-spool tries to hand a message to SES. Shorter than clients wait for a reply.
        hand_off_seconds: Seconds = Seconds::of(8),
        /// A message tag with the queue id, by which SES events name the message; "" for none.
        tag: TagNameText = TagNameText(QueueSettings::default().tag),
        /// Seconds: when the oldest message in the spool waits longer, /readyz is degraded. The default is an hour.
        degraded_after_seconds: Seconds = Seconds::seconds(QueueSettings::default().degraded_after),
        /// A directory for messages that failed: the message as .eml, the reason as .json. Default: dead in directory.
        #[schemars(example = &"/var/lib/gatepost/dead")]
        dead_letter: Option<PathBuf> = None,
        /// Bytes in dead_letter; when it is full, messages that fail are held in the spool. The default is 1 GiB.
        dead_letter_octets_max: Octets = Octets::of(1 << 30),
    } []
}

/// The spool of a plan.
#[derive(Clone, Debug)]
pub(crate) struct SpoolPlan {
    pub(crate) disk: DiskSpoolSettings,
    pub(crate) dead_letter: PathBuf,
    pub(crate) dead_letter_octets_max: u64,
}

impl Spool {
    fn limits(&self) -> SpoolLimits {
        let mut limits = SpoolLimits::default();
        limits.octets_max = self.octets_max.get();
        limits.messages_max = self.messages_max.get();
        limits.app_octets_max = self.app_octets_max.map_or(limits.octets_max / 2, |most| most.get());
        limits.app_messages_max = self.app_messages_max.map_or(limits.messages_max.div_ceil(2), |most| most.get());
        limits
    }

    fn plan(&self, directory: &Path) -> SpoolPlan {
        let mut disk = DiskSpoolSettings::new(directory);
        disk.limits = self.limits();
        disk.free_octets_min = self.free_octets_min.get();
        let dead_letter = self.dead_letter.clone().unwrap_or_else(|| directory.join("dead"));
        SpoolPlan { disk, dead_letter, dead_letter_octets_max: self.dead_letter_octets_max.get() }
    }

    fn retry(&self, rules: &Rules) -> RetrySettings {
        RetrySettings {
            expiry: rules.expiry_seconds.unwrap_or(self.expiry_seconds).wait(),
            on_ambiguous: rules.on_ambiguous.unwrap_or(self.on_ambiguous).into(),
            ..RetrySettings::default()
        }
    }

    /// How long an attempt to hand off lasts where the spool is next.
    pub(super) fn hand_off_wait(&self) -> Duration {
        self.hand_off_seconds.wait()
    }
}

/// The spool, and how its messages are sent.
pub(super) fn plan(config: &Config, diagnostics: &mut Diagnostics<'_>) -> (Option<SpoolPlan>, QueueSettings) {
    let section = &config.spool;
    let queue = QueueSettings {
        retry: section.retry(&config.policy.rules()),
        tag: section.tag.0.clone(),
        degraded_after: section.degraded_after_seconds.wait(),
        apps: apps(config).map(|(name, rules)| (name, section.retry(&rules))).collect::<HashMap<_, _>>(),
        ..QueueSettings::default()
    };
    check(config, diagnostics);
    let Some(directory) = &section.directory else {
        needs_directory(config, diagnostics);
        return (None, queue);
    };
    if directory.exists() && !directory.is_dir() {
        let message = format!("{} is not a directory", directory.display());
        diagnostics.error("spool.directory", message, "name a directory, or a path that does not exist");
    }
    if !uses_spool(config) {
        let hint = "set delivery = \"spool\" or \"hand-off-else-spool\" in [policy] or an [[app]]";
        diagnostics.warn("spool.directory", "no application uses the spool", hint);
    }
    (Some(section.plan(directory)), queue)
}

fn apps(config: &Config) -> impl Iterator<Item = (AppName, Rules)> + '_ {
    config.app.iter().filter_map(|app| Some((app.name.clone()?.0, App::rules(app))))
}

fn uses_spool(config: &Config) -> bool {
    let of_apps = config.app.iter().map(|app| app.delivery.unwrap_or(config.policy.delivery));
    of_apps.chain([config.policy.delivery]).any(|delivery| delivery != Delivery::HandOff)
}

/// What an application cannot have without a spool.
fn needs_directory(config: &Config, diagnostics: &mut Diagnostics<'_>) {
    let policy = ("policy".to_owned(), config.policy.delivery);
    // An application without the key has that of the policy, which is reported once.
    let of_apps = Item::all("app", &config.app).filter_map(|item| Some((item.path, item.value.delivery?)));
    for (path, delivery) in std::iter::once(policy).chain(of_apps) {
        if delivery != Delivery::HandOff {
            let hint = "set directory in [spool], on a disk that survives a restart; or delivery = \"hand-off\"";
            diagnostics.error(&format!("{path}.delivery"), "there is no spool", hint);
        }
    }
}

/// Limits that contradict each other.
fn check(config: &Config, diagnostics: &mut Diagnostics<'_>) {
    let section = &config.spool;
    let limits = section.limits();
    let message = config.smtp.message_octets_max.get();
    if section.directory.is_some() && limits.app_octets_max.min(limits.octets_max) < message {
        let text = format!("a message of {message} octets would never fit");
        let key = if limits.octets_max < message { "spool.octets_max" } else { "spool.app_octets_max" };
        diagnostics.error(key, text, "at least smtp.message_octets_max");
    }
    let pairs = [
        ("spool.app_octets_max", limits.app_octets_max, limits.octets_max, "octets_max"),
        ("spool.app_messages_max", limits.app_messages_max, limits.messages_max, "messages_max"),
    ];
    for (key, of_app, of_all, other) in pairs {
        if of_app > of_all {
            diagnostics.warn(key, format!("it never counts: {other} is {of_all}"), "lower it, or leave it out");
        }
    }
    if config.smtp.recipients_max.size() > RECIPIENTS_PER_PART && !uses_spool(config) {
        let text = format!("without a spool, recipients after the {RECIPIENTS_PER_PART}th receive 452");
        let hint = "SES accepts 50 in one call: lower it, or set delivery to spool or hand-off-else-spool";
        diagnostics.warn("smtp.recipients_max", text, hint);
    }
    let wait = config.deadline.settings();
    if section.directory.is_some() && section.hand_off_wait() <= wait.attempt_min {
        let text = "with a time this short, no attempt to hand off would begin";
        diagnostics.error("spool.hand_off_seconds", text, "more than deadline.attempt_seconds_min");
    }
}
