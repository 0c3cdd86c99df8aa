//! How many connections each application has.
//!
//! A connection belongs to an application from its first MAIL that policy recognises; sooner nobody knows. Connections in
//! total and by client address are counted at the door.

use crate::mail::parameters::AppName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections that an application may have.
#[derive(Clone, Debug, Default)]
pub struct AppConnections {
    /// Each; `None`: as many as the door lets in.
    pub each_max: Option<usize>,
    /// Some.
    pub by_app: HashMap<AppName, usize>,
}

/// The counts.
#[derive(Debug)]
pub(super) struct Places {
    settings: AppConnections,
    counts: Mutex<HashMap<AppName, usize>>,
}

/// One connection of an application; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    pub(super) app: AppName,
}

impl Places {
    pub(super) fn new(settings: AppConnections) -> Self {
        Self { settings, counts: Mutex::default() }
    }

    /// One more connection of that application; `Err`: the most it may have, and has.
    pub(super) fn take(self: &Arc<Self>, app: &AppName) -> Result<Place, usize> {
        let most = self.settings.by_app.get(app).copied().or(self.settings.each_max).unwrap_or(usize::MAX);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(app.clone()).or_default();
        if *count >= most {
            return Err(most);
        }
        *count += 1;
        Ok(Place { places: Arc::clone(self), app: app.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.counts.lock().unwrap_or_else(PoisonError::into_inner);
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
        let places = Arc::new(Places::new(AppConnections { each_max: Some(1), by_app }));
        let held = [places.take(&app("shop")).unwrap(), places.take(&app("shop")).unwrap()];
        assert_eq!(places.take(&app("shop")).unwrap_err(), 2);
        let other = places.take(&app("billing")).unwrap();
        assert_eq!(places.take(&app("billing")).unwrap_err(), 1);
        drop((held, other));
        assert!(places.counts.lock().unwrap().is_empty());
    }
}
