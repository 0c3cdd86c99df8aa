//! Limits on the connections of each application.
//!
//! A connection belongs to an application from its first MAIL that policy accepts. Connections in total and by client address
//! are limited by `server`.

use crate::mail::parameters::AppName;
use std::collections::HashMap;

/// Connections that an application may have.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AppConnectionLimits {
    /// For each application that is not in `by_app`; `None`: no limit.
    pub each_max: Option<usize>,
    /// For single applications.
    pub by_app: HashMap<AppName, usize>,
}

impl AppConnectionLimits {
    /// Connections that `app` may have.
    pub(super) fn max_of(&self, app: &AppName) -> usize {
        self.by_app.get(app).copied().or(self.each_max).unwrap_or(usize::MAX)
    }
}
