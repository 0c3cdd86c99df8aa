//! Checks at the start whether the roles and configuration sets of the applications work at the provider.
//!
//! One check at a time, in the background, at most [`CHECKS_MAX`]. A failed check is repeated about every minute until it
//! succeeds; a successful one is not repeated. A call that IAM denies proves nothing.

use super::Relay;
use super::account_quota::{ANSWER_WAIT_MAX, CHECK_INTERVAL, spread};
use super::health::{APPS_MAX, Subject};
use crate::mail::parameters::{AppName, ConfigurationSetName, RoleArn};
use crate::mail::{ReadError, SendParameters};
use std::time::Duration;

/// The pause between two checks: SES accepts one GetAccount and one GetConfigurationSet per second and account.
const CHECK_PAUSE: Duration = Duration::from_millis(1_100);
/// The maximum number of checks.
const CHECKS_MAX: usize = 50;

/// One role, or one configuration set as a role.
struct Check {
    role: Option<RoleArn>,
    /// `None`: credentials, connection and account.
    set: Option<ConfigurationSetName>,
    /// The applications that need it, at most [`APPS_MAX`].
    apps: Vec<AppName>,
    /// Not decided yet.
    due: bool,
}

impl Check {
    fn subject(&self) -> Subject {
        match &self.set {
            Some(set) => Subject::Set(self.role.clone(), set.clone()),
            None => Subject::Account(self.role.clone()),
        }
    }
}

impl Relay {
    /// Runs the checks for ever. `has_account`: [`Relay::watch_account`] reads the transport's own account, and ends its faults.
    pub(super) async fn watch_checks(&self, has_account: bool) {
        let mut checks = self.checks();
        loop {
            for check in &mut checks {
                self.check(check, has_account).await;
            }
            tokio::time::sleep(spread(CHECK_INTERVAL)).await;
            self.health.expire();
        }
    }

    async fn check(&self, check: &mut Check, has_account: bool) {
        if !check.due && !self.health.is_faulty(&check.subject()) {
            return;
        }
        tokio::time::sleep(CHECK_PAUSE).await;
        let account = Subject::Account(check.role.clone());
        // Without credentials, a configuration set cannot be checked.
        if check.set.is_some() && self.health.is_faulty(&account) {
            return;
        }
        let asked = self.transport.check(check.role.as_ref(), check.set.as_ref());
        let answer = tokio::time::timeout(ANSWER_WAIT_MAX, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(ReadError::Unavailable("no answer in time".to_owned())));
        let of_account = matches!(answer, Err(ReadError::Fault(_))) && (has_account || check.role.is_some());
        check.due = of_account || matches!(answer, Err(ReadError::Unavailable(_)));
        self.judge_check(if of_account { account } else { check.subject() }, answer, &check.apps);
    }

    pub(super) fn judge_check(&self, subject: Subject, answer: Result<(), ReadError>, apps: &[AppName]) {
        match answer {
            Err(ReadError::Fault(text) | ReadError::Missing(text)) => {
                // All applications share the transport's own account.
                let apps = if subject == Subject::Account(None) { &[] } else { apps };
                self.health.fails(subject, text.into(), apps);
            }
            // A denied call shows that there are credentials. Nothing else is known.
            Ok(()) | Err(ReadError::NotPermitted(_)) => self.health.works(|known| *known == subject),
            Err(ReadError::Unsupported | ReadError::Unavailable(_)) => {}
        }
    }

    fn checks(&self) -> Vec<Check> {
        let sends = self.policy.sends();
        let needs = |send: &SendParameters| (send.role.clone(), send.configuration_set.clone());
        let sends: Vec<_> = sends.iter().map(|(app, send)| (app, needs(send))).collect();
        let roles = sends.iter().filter(|(_, (role, _))| role.is_some()).map(|(app, (role, _))| (app, role, &None));
        let sets = sends.iter().filter(|(_, (_, set))| set.is_some()).map(|(app, (role, set))| (app, role, set));
        let mut checks: Vec<Check> = Vec::new();
        for (app, role, set) in roles.chain(sets) {
            let has_room = checks.len() < CHECKS_MAX;
            match checks.iter_mut().find(|check| check.role == *role && check.set == *set) {
                Some(check) if check.apps.len() < APPS_MAX => check.apps.push((*app).clone()),
                None if has_room => {
                    let apps = vec![(*app).clone()];
                    checks.push(Check { role: role.clone(), set: set.clone(), apps, due: true });
                }
                _ => {}
            }
        }
        checks
    }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
