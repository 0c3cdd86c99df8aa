//! Why a relay does not start, with the key of the configuration and what to do about it.

use super::exit::{Exit, Failure};
use crate::admin::AdminError;
use crate::builder::StartError;
use crate::config::Config;
use crate::config::values::{Listen, ListenAddress};
use std::io;

/// A start that failed after the configuration was found good: sockets, above all.
pub(super) fn failure(config: &Config, error: StartError) -> Failure {
    let (key, address, cause) = match &error {
        StartError::Bind(bind) => {
            let place = config.listener.iter().position(|listener| listener.called() == bind.listener());
            let Some(place) = place else { return error.into() };
            (format!("listener.{place}.address"), config.listener[place].address.as_ref(), bind.error())
        }
        StartError::Admin(AdminError::Listen { error, .. }) => {
            ("admin.address".to_owned(), config.admin.address.as_ref(), error)
        }
        _ => return error.into(),
    };
    let hint = address.map(|address| hint(&key, address, cause)).unwrap_or_default();
    let exit = match cause.kind() {
        io::ErrorKind::PermissionDenied => Exit::NoPermission,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, error.to_string()).at(&config.source_map.of(&key)).with_hint(hint)
}

/// What to do about a socket that cannot be taken.
fn hint(key: &str, ListenAddress(address): &ListenAddress, cause: &io::Error) -> String {
    match (address, cause.kind()) {
        (Listen::Tcp(address), io::ErrorKind::AddrInUse) => {
            let port = address.port();
            format!(
                "another process listens there: find it with `ss -ltnp 'sport = :{port}'` (as root), and stop it or choose \
                 another port in {key}"
            )
        }
        (Listen::Tcp(address), io::ErrorKind::PermissionDenied) if address.port() < 1024 => format!(
            "ports below 1024 need a privilege: AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, or choose \
             another port in {key}"
        ),
        (Listen::Tcp(address), io::ErrorKind::AddrNotAvailable) => {
            format!(
                "no interface of this machine has the address {}: see `ip address`, and correct {key}",
                address.ip()
            )
        }
        (Listen::Unix(path), io::ErrorKind::NotFound) => {
            let directory = path.parent().unwrap_or(path).display();
            format!(
                "the directory {directory} does not exist: make it (RuntimeDirectory= in the systemd unit), or correct {key}"
            )
        }
        (Listen::Unix(path), io::ErrorKind::AddrInUse | io::ErrorKind::AlreadyExists) => format!(
            "something is at {0} already: another process that listens there (`ss -lxp src {0}`), or a file to remove; or \
             choose another path in {key}",
            path.display()
        ),
        (Listen::Unix(path), io::ErrorKind::PermissionDenied) => {
            let directory = path.parent().unwrap_or(path).display();
            format!("let the relay's user write to {directory}, or choose another path in {key}")
        }
        _ => format!("correct {key}"),
    }
}
