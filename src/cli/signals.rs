//! SIGTERM and SIGINT, one as good as the other; SIGHUP, which ends nothing.

use super::exit::{Exit, Failure};

/// Receives signals from the moment it is made: none between two waits is lost.
#[derive(Debug)]
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalRequest {
    /// To stop.
    Stop(&'static str),
    /// To read the certificates again.
    Reload,
}

impl Signals {
    /// To be called inside a runtime.
    pub(super) fn listen() -> Result<Self, Failure> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let failed = |error| Failure::new(Exit::OsError, format!("cannot listen for signals: {error}"));
            let terminate = signal(SignalKind::terminate()).map_err(failed)?;
            let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
            let hangup = signal(SignalKind::hangup()).map_err(failed)?;
            Ok(Self { terminate, interrupt, hangup })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for one that asks to stop, and says which.
    pub(super) async fn stop(&mut self) -> &'static str {
        loop {
            if let SignalRequest::Stop(name) = self.next().await {
                return name;
            }
        }
    }

    /// Waits for the next one, and says what it asks for.
    pub(super) async fn next(&mut self) -> SignalRequest {
        #[cfg(unix)]
        {
            tokio::select! {
                _ = self.terminate.recv() => SignalRequest::Stop("SIGTERM"),
                _ = self.interrupt.recv() => SignalRequest::Stop("SIGINT"),
                _ = self.hangup.recv() => SignalRequest::Reload,
            }
        }
        #[cfg(not(unix))]
        {
            let _ = tokio::signal::ctrl_c().await;
            SignalRequest::Stop("interrupt")
        }
    }
}
