//! How many connections each application has.
//!
//! A connection belongs to an application from its first MAIL that policy accepts. Connections in total and by client address are
//! limited by `server`.

use crate::mail::parameters::AppName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections that an application may have.
#[derive(Clone, Debug, Default)]
pub struct AppConnectionLimits {
    /// Each; `None`: no limit of its own.
    pub each_max: Option<usize>,
    /// Some.
    pub by_app: HashMap<AppName, usize>,
}

/// The counts.
#[derive(Debug)]
pub(super) struct AppConnections {
    settings: AppConnectionLimits,
    counts: Mutex<HashMap<AppName, usize>>,
}

/// One connection of an application. Dropping it releases the connection.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    app_connections: Arc<AppConnections>,
    pub(super) app: AppName,
}

impl AppConnections {
    pub(super) fn new(settings: AppConnectionLimits) -> Self {
        Self { settings, counts: Mutex::default() }
    }

    /// One more connection of that application; `Err`: the most it may have, and has.
    pub(super) fn take(self: &Arc<Self>, app: &AppName) -> Result<ConnectionGuard, usize> {
        let most = self.settings.by_app.get(app).copied().or(self.settings.each_max).unwrap_or(usize::MAX);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(app.clone()).or_default();
        if *count >= most {
            return Err(most);
        }
        *count += 1;
        Ok(ConnectionGuard { app_connections: Arc::clone(self), app: app.clone() })
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut counts = self.app_connections.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.app) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_and_leave_nothing_behind() {
        let app = |name: &str| AppName::parse(name).unwrap();
        let by_app = HashMap::from([(app("shop"), 2)]);
        let app_connections = Arc::new(AppConnections::new(AppConnectionLimits { each_max: Some(1), by_app }));
        let held = [app_connections.take(&app("shop")).unwrap(), app_connections.take(&app("shop")).unwrap()];
        assert_eq!(app_connections.take(&app("shop")).unwrap_err(), 2);
        let other = app_connections.take(&app("billing")).unwrap();
        assert_eq!(app_connections.take(&app("billing")).unwrap_err(), 1);
        drop((held, other));
        assert!(app_connections.counts.lock().unwrap().is_empty());
    }
}
