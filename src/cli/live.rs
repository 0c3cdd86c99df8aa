//! A running relay whose configuration can be read again.
//!
//! Everything is read and checked first: files, secrets, certificates, sockets. Then all of it is in force, or nothing.

use super::ConfigFile;
use super::exit::Failure;
use super::replay::replay;
use super::start;
use crate::admin::api::Time;
use crate::admin::{ReloadProblem, ReloadReport, Reloads};
use crate::builder::Running;
use crate::config::{Config, Diagnostic, FilesRead, FixedSettings, Plan, Purpose, Upstream};
use crate::limit::{LocalLimiter, RedisConnection, Unlimited};
use crate::mail::{Clock, SystemClock};
use crate::transport::ses::{SesSettings, SesTransport};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info, warn};

/// What the relay goes on with.
pub(super) struct Live {
    /// `None`: the configuration is part of the program.
    pub(super) file: Option<ConfigFile>,
    pub(super) running: Running,
    pub(super) transport: Arc<SesTransport>,
    pub(super) ses: SesSettings,
    /// Where the emulator listens, if it stands for SES.
    pub(super) emulator: Option<String>,
    pub(super) limiter: Option<Arc<LocalLimiter>>,
    pub(super) store: Option<RedisConnection>,
    pub(super) fixed: FixedSettings,
    pub(super) read: FilesRead,
    pub(super) reloads: Arc<Reloads>,
    /// Whether a changed file is read again, and what was seen of the files.
    pub(super) watch: bool,
    pub(super) seen: Seen,
}

/// What the watch saw of the files: their digest the last time, and the one that was read last, whatever came of it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    last: String,
    tried: String,
}

impl Seen {
    /// With what was read at the start.
    pub(super) fn of(read: &FilesRead) -> Self {
        Self { last: String::new(), tried: read.digest() }
    }
}

/// The interval at which files are looked at. A change is read when it is the same at two looks: it may be half written.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// A configuration that was read and is good.
struct Loaded {
    config: Config,
    plan: Plan,
    warnings: Vec<Diagnostic>,
}

impl Live {
    /// Waits until a watched file has changed.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let (true, Some(file)) = (self.watch, &self.file) else { continue };
            let (read, path) = (self.read.clone(), file.config.clone());
            let now = tokio::task::spawn_blocking(move || read.digest_now(&path)).await.unwrap_or_default();
            let is_stable = self.seen.last == now;
            self.seen.last.clone_from(&now);
            // Also where a bad file is as it was before: the last reload failed, and this one will not.
            if is_stable && now != self.seen.tried {
                self.seen.tried = now;
                return;
            }
        }
    }

    /// Reads everything again and puts it in force. After an error, nothing changes.
    pub(super) async fn reload(&mut self, trigger: &str) -> ReloadReport {
        let report = match self.load().await {
            Ok(loaded) => {
                let changes = self.read.changes(&loaded.plan.read);
                match self.apply(loaded).await {
                    Ok(()) => self.report(trigger, changes, Vec::new()),
                    Err(problems) => self.report(trigger, Vec::new(), problems),
                }
            }
            Err(problems) => self.report(trigger, Vec::new(), problems),
        };
        for ReloadProblem { place, message, hint } in &report.problems {
            error!(target: "gatepost", place, hint, trigger, "the configuration is not reloaded, the one before stays in force: {message}");
        }
        if report.successful {
            info!(target: "gatepost", trigger, changes = report.changes.len(), digest = report.digest, "the configuration is reloaded");
            for change in &report.changes {
                info!(target: "gatepost", trigger, "reloaded: {change}");
            }
        }
        self.reloads.record(report.clone(), self.read.shown());
        report
    }

    /// What a reload would change, and which messages of the last hour would be decided differently.
    pub(super) async fn dry_run(&self) -> ReloadReport {
        match self.load().await {
            Ok(loaded) => {
                let mut changes = self.read.changes(&loaded.plan.read);
                if let Some(decisions) = self.running.decisions().filter(|_| !changes.is_empty()) {
                    // Without limits: what is left of them now says nothing about then.
                    let next = loaded.plan.builder(Arc::clone(&self.transport)).limiter(Unlimited);
                    let now = jiff::Timestamp::try_from(SystemClock.wall()).map_or(0, jiff::Timestamp::as_millisecond);
                    let now = u64::try_from(now).unwrap_or_default();
                    changes.extend(replay(&self.running, &next, decisions, now).await);
                }
                self.report("api", changes, Vec::new())
            }
            Err(problems) => self.report("api", Vec::new(), problems),
        }
    }

    fn report(&self, trigger: &str, changes: Vec<String>, problems: Vec<ReloadProblem>) -> ReloadReport {
        let (time, successful) = (now(), problems.is_empty());
        ReloadReport { time, trigger: trigger.to_owned(), successful, digest: self.read.digest(), changes, problems }
    }

    /// Reads and checks.
    async fn load(&self) -> Result<Loaded, Vec<ReloadProblem>> {
        let Some(file) = self.file.clone() else {
            let message = "the relay was not started with a configuration file".to_owned();
            return Err(vec![problem("", message, "gatepost run --config FILE")]);
        };
        let region = self.transport.region().to_owned();
        let read = tokio::task::spawn_blocking(move || load(&file, &region)).await;
        let loaded = match read {
            Ok(loaded) => loaded?,
            Err(error) => return Err(vec![problem("", error.to_string(), "")]),
        };
        match self.fixed.differs(&loaded.plan.fixed) {
            None => Ok(loaded),
            Some(key) => {
                let place = loaded.config.source_map.of(key).to_string();
                let hint = "restart the relay, or take this change back";
                Err(vec![problem(&place, format!("a change of {key} needs a restart"), hint)])
            }
        }
    }

    async fn apply(&mut self, loaded: Loaded) -> Result<(), Vec<ReloadProblem>> {
        let Loaded { config, mut plan, warnings } = loaded;
        plan.use_store(self.store.clone());
        let ses = match (&plan.upstream, &self.emulator) {
            (Upstream::Emulator(setup), Some(endpoint)) => setup.ses(endpoint.clone()),
            (Upstream::Amazon(settings), _) => (**settings).clone(),
            (Upstream::Emulator(_), None) => return Err(vec![problem("", "the emulator does not run".to_owned(), "")]),
        };
        let transport = if ses == self.ses {
            Arc::clone(&self.transport)
        } else {
            Arc::new(SesTransport::connect(ses.clone()).await.map_err(wrong)?)
        };
        let limiter = plan.local_limiter(self.limiter.as_deref()).map_err(wrong)?.map(Arc::new);
        let (read, fixed, watch) = (plan.read.clone(), plan.fixed.clone(), plan.watch);
        let mut builder = plan.builder(Arc::clone(&transport));
        if let Some(limiter) = &limiter {
            builder = builder.limiter(Arc::clone(limiter));
        }
        self.running.reconfigure(builder).await.map_err(|error| wrong(start::failure(&config, error)))?;
        for warning in warnings {
            let hint = warning.hint.as_deref().unwrap_or_default();
            warn!(target: "gatepost", place = %warning.location, hint, "{}", warning.message);
        }
        self.seen.tried = read.digest();
        (self.transport, self.ses, self.read, self.fixed, self.watch) = (transport, ses, read, fixed, watch);
        self.limiter = limiter.or(self.limiter.take());
        Ok(())
    }
}

fn load(file: &ConfigFile, region: &str) -> Result<Loaded, Vec<ReloadProblem>> {
    if !can_be_read_again(&file.config) {
        let hint = "start it with --config FILE";
        let message = "the relay was started with a configuration from a pipe, which cannot be read again".to_owned();
        return Err(vec![problem(&file.config.display().to_string(), message, hint)]);
    }
    let (config, environment) = file.load().map_err(wrong)?;
    let plan = config.plan(&environment, Purpose::Reload).map_err(wrong)?;
    let mut warnings = plan.warnings.clone();
    if let Some(found) = config.check_region(&environment, region) {
        if !found.errors.is_empty() {
            return Err(wrong(Failure::of_problems(&found.errors)));
        }
        warnings.extend(found.warnings);
    }
    Ok(Loaded { config, plan, warnings })
}

/// Not a pipe, which would wait for a writer.
fn can_be_read_again(path: &Path) -> bool {
    path == Path::new("/dev/null") || std::fs::metadata(path).map_or(true, |found| found.is_file())
}

fn problem(place: &str, message: String, hint: &str) -> ReloadProblem {
    ReloadProblem { place: place.to_owned(), message, hint: hint.to_owned() }
}

fn wrong(error: impl Into<Failure>) -> Vec<ReloadProblem> {
    let failure = error.into();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let causes = failure.causes.iter();
    causes.map(|cause| problem(&text(&cause.place), cause.message.clone(), &text(&cause.hint))).collect()
}

/// The time.
pub(super) fn now() -> Time {
    Time::of(SystemClock.wall())
}
