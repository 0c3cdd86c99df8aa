//! Sockets that systemd opened: by their number from 0, or by `FileDescriptorName=` (sd_listen_fds(3)).

use crate::server::Endpoint;
use listenfd::ListenFd;

/// Those that were passed to this process, each to be taken once.
pub(super) struct Sockets {
    passed: ListenFd,
    names: Vec<String>,
}

impl Sockets {
    /// Takes them from the environment, and LISTEN_FDS out of it. To be called before any thread is started.
    pub(super) fn from_environment() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self { passed: ListenFd::from_env(), names: names.split(':').map(str::to_owned).collect() }
    }

    /// The socket of that number, or the first of that name that is left.
    pub(super) fn take(&mut self, wanted: &str) -> Result<Endpoint, String> {
        let places: Vec<usize> = match wanted.parse() {
            Ok(place) => vec![place],
            Err(_) => (0..self.names.len()).filter(|place| self.names[*place] == wanted).collect(),
        };
        for place in places {
            let tcp = self.passed.take_tcp_listener(place);
            if let Ok(Some(listener)) = tcp {
                return Ok(Endpoint::InheritedTcp(listener));
            }
            #[cfg(unix)]
            if let Ok(Some(listener)) = self.passed.take_unix_listener(place) {
                return Ok(Endpoint::InheritedUnix(listener));
            }
        }
        Err(match self.passed.len() {
            0 => format!("no socket {wanted}: systemd passed none"),
            passed => format!("no listening socket {wanted} is left of the {passed} that systemd passed"),
        })
    }
}
