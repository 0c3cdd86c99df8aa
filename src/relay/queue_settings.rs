//! How messages in the spool are sent.

use super::due_queue::App;
use super::retry_schedule::RetrySettings;
use crate::mail::parameters::{AppName, TagName};
use std::collections::HashMap;
use std::time::Duration;

/// How messages in the spool are sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueueSettings {
    /// For messages of applications without settings of their own.
    pub retry: RetrySettings,
    /// For messages of these applications.
    pub apps: HashMap<AppName, RetrySettings>,
    /// The name of the message tag with the queue id, by which an operator finds the message in SES events. `None`: no tag.
    pub tag: Option<TagName>,
    /// Attempts at a time.
    pub attempts_max: usize,
    /// When the oldest message waits longer than this, the relay is degraded.
    pub degraded_after: Duration,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            retry: RetrySettings::default(),
            apps: HashMap::new(),
            tag: TagName::parse("gatepost-id").ok(),
            attempts_max: 100,
            degraded_after: Duration::from_secs(3600),
        }
    }
}

impl QueueSettings {
    /// For messages of that application.
    pub(super) fn of(&self, app: &App) -> RetrySettings {
        app.as_ref().and_then(|app| self.apps.get(app)).copied().unwrap_or(self.retry)
    }
}
