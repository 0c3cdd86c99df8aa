//! Listening sockets: TCP, Unix, or inherited from systemd.

use super::connection;
use super::connection_limits::ConnectionGuard;
use super::listener_context::ListenerContext;
use super::stream::{Plain, UnregisteredStream};
use super::{ListenerSettings, ServerContext, TlsSettings};
use crate::mail::{ClientAddress, replies};
use crate::observe::Event;
#[cfg(feature = "admin")]
use crate::relay::ExplainedListener;
use crate::smtp::{AuthMode, TlsMode};
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// Where a listener listens.
#[derive(Debug)]
pub enum Endpoint {
    /// TCP. Port 0: any free one.
    Tcp(SocketAddr),
    /// A Unix socket, with the permission bits of its file. A stale file is replaced.
    Unix {
        /// Its path.
        path: PathBuf,
        /// For example `0o660`.
        mode: u32,
    },
    /// A TCP socket that listens already, from systemd for example.
    InheritedTcp(StdTcpListener),
    /// A Unix socket that listens already.
    #[cfg(unix)]
    InheritedUnix(std::os::unix::net::UnixListener),
    /// The inherited socket that the listener of this name has already: where a running relay is given another configuration.
    Kept,
}

/// What tells sockets apart.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Inherited(Arc<str>),
}

impl Endpoint {
    fn place(&self, name: &Arc<str>) -> Place {
        match self {
            Self::Tcp(address) => Place::Tcp(*address),
            Self::Unix { path, .. } => Place::Unix(path.clone()),
            _ => Place::Inherited(Arc::clone(name)),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => path.display().fmt(f),
            Self::InheritedTcp(_) => f.write_str("an inherited TCP socket"),
            #[cfg(unix)]
            Self::InheritedUnix(_) => f.write_str("an inherited Unix socket"),
            Self::Kept => f.write_str("an inherited socket"),
        }
    }
}

/// The address that a listener listens on, with the port that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix.
    Unix(PathBuf),
}

impl std::fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Why a listener does not listen.
#[derive(Debug, thiserror::Error)]
#[error("listener {listener}: cannot listen on {endpoint}: {error}")]
pub struct BindError {
    listener: Arc<str>,
    endpoint: String,
    #[source]
    error: io::Error,
}

impl BindError {
    /// The name of the listener.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// The system's error.
    pub fn error(&self) -> &io::Error {
        &self.error
    }
}

/// A listener whose socket listens, before it accepts connections.
#[derive(Debug)]
pub(crate) struct Bound {
    settings: ListenerSettings,
    socket: Socket,
    address: ListenerAddress,
    /// The file of a Unix socket that `bind` created, and that is removed at the end. An inherited one is not removed.
    made: Option<MadeFile>,
    place: Place,
}

/// A listener that accepts.
#[derive(Debug)]
pub(crate) struct ListenerHandle {
    /// What connections from now on have.
    context: watch::Sender<Arc<ListenerContext>>,
    address: ListenerAddress,
    place: Place,
    stop: CancellationToken,
    task: AbortHandle,
}

impl ListenerHandle {
    /// Its name.
    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.context.borrow().settings.name)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &ListenerAddress {
        &self.address
    }

    /// Its certificate.
    pub(crate) fn tls(&self) -> Option<TlsSettings> {
        self.context.borrow().settings.tls.clone()
    }

    /// What an explanation needs of it.
    #[cfg(feature = "admin")]
    pub(crate) fn explained(&self) -> ExplainedListener {
        let unix = matches!(self.address, ListenerAddress::Unix(_));
        ExplainedListener { unix, ..self.context.borrow().settings.explained() }
    }

    /// Its modes of TLS and AUTH.
    pub(crate) fn offers(&self) -> (TlsMode, AuthMode) {
        let context = self.context.borrow();
        (context.settings.smtp.tls, context.settings.smtp.auth)
    }

    /// Whether it accepts.
    pub(crate) fn accepts(&self) -> bool {
        !self.task.is_finished()
    }

    /// Whether these settings are for the same socket. A free port is the same for the listener of the same name only.
    pub(crate) fn is_for(&self, settings: &ListenerSettings) -> bool {
        let place = settings.endpoint.place(&settings.name);
        let any_port = matches!(&place, Place::Tcp(address) if address.port() == 0);
        self.place == place && (!any_port || self.name() == settings.name)
    }

    /// Changes what connections from now on have. Established ones keep what they have, but the next handshake of each has the new
    /// certificate.
    pub(crate) fn configure(&self, mut settings: ListenerSettings) {
        #[cfg(unix)]
        if let Endpoint::Unix { path, mode } = &settings.endpoint {
            use std::os::unix::fs::PermissionsExt;
            // It may have been removed; then it has no mode to set.
            let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode));
        }
        settings.endpoint = Endpoint::Kept;
        let before = Arc::clone(&self.context.borrow());
        if let (Some(before), Some(now)) = (&before.settings.tls, &settings.tls) {
            before.replace(now);
        }
        self.context.send_replace(Arc::new(ListenerContext::new(settings, before.shared.clone())));
    }

    /// Stops accepting, and waits until the address is free. Connections stay.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        while self.accepts() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Bound {
    /// Creates the socket, or takes the inherited one.
    ///
    /// # Errors
    /// [`BindError`].
    pub(crate) fn bind(mut settings: ListenerSettings) -> Result<Self, BindError> {
        let endpoint = std::mem::replace(&mut settings.endpoint, Endpoint::Kept);
        let place = endpoint.place(&settings.name);
        let shown = endpoint.to_string();
        let made = match &endpoint {
            Endpoint::Unix { path, .. } => Some(path.clone()),
            _ => None,
        };
        let bound = take_socket(endpoint);
        let (socket, address) =
            bound.map_err(|error| BindError { listener: Arc::clone(&settings.name), endpoint: shown, error })?;
        Ok(Self { settings, socket, address, made: made.map(MadeFile), place })
    }

    /// Accepts, in a task, until the relay drains or the handle stops it.
    pub(crate) fn start(self, shared: ServerContext) -> ListenerHandle {
        let (tasks, stop) = (shared.tasks.clone(), shared.draining.child_token());
        let Self { settings, socket, address, made, place } = self;
        let (context, now) = watch::channel(Arc::new(ListenerContext::new(settings, shared)));
        let task = tasks.spawn(accept_all(socket, now, made, stop.clone())).abort_handle();
        ListenerHandle { context, address, place, stop, task }
    }
}

async fn accept_all(
    socket: Socket,
    now: watch::Receiver<Arc<ListenerContext>>,
    _made: Option<MadeFile>,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        let context = Arc::clone(&now.borrow());
        match accepted {
            Ok((stream, address)) => accept(&context, stream, address),
            // Most likely out of file descriptors: retrying at once would use a whole core.
            Err(error) => {
                let reason = format!("cannot accept: {error}");
                context.refused(ClientAddress::Unknown, None, &reason);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The file of a Unix socket, removed when it is dropped.
#[derive(Debug)]
struct MadeFile(PathBuf);

impl Drop for MadeFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The pause after a failed accept, and the time for the reply to a refused connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

fn take_socket(endpoint: Endpoint) -> io::Result<(Socket, ListenerAddress)> {
    match endpoint {
        Endpoint::Tcp(address) => {
            // std sets SO_REUSEADDR, so a restart need not wait for connections in TIME_WAIT.
            let listener = StdTcpListener::bind(address)?;
            inherit_tcp(listener)
        }
        Endpoint::InheritedTcp(listener) => inherit_tcp(listener),
        #[cfg(unix)]
        Endpoint::Unix { path, mode } => {
            use std::os::unix::fs::PermissionsExt;
            use std::os::unix::net::UnixListener as StdUnixListener;
            let listener = match StdUnixListener::bind(&path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(&path) => {
                    std::fs::remove_file(&path)?;
                    StdUnixListener::bind(&path)?
                }
                other => other?,
            };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
            inherit_unix(listener, path)
        }
        #[cfg(not(unix))]
        Endpoint::Unix { .. } => Err(io::ErrorKind::Unsupported.into()),
        #[cfg(unix)]
        Endpoint::InheritedUnix(listener) => {
            let path = listener.local_addr()?.as_pathname().map(PathBuf::from).unwrap_or_default();
            inherit_unix(listener, path)
        }
        Endpoint::Kept => {
            Err(io::Error::new(io::ErrorKind::NotFound, "no socket of that name was inherited at the start"))
        }
    }
}

/// Whether a path is a socket without a listener, left over from a process that has ended. No other file may be removed.
#[cfg(unix)]
fn is_left_over(path: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refused = || {
        std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    is_socket && refused()
}

fn inherit_tcp(listener: StdTcpListener) -> io::Result<(Socket, ListenerAddress)> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((Socket::Tcp(TcpListener::from_std(listener)?), ListenerAddress::Tcp(address)))
}

#[cfg(unix)]
fn inherit_unix(listener: std::os::unix::net::UnixListener, path: PathBuf) -> io::Result<(Socket, ListenerAddress)> {
    listener.set_nonblocking(true)?;
    Ok((Socket::Unix(UnixListener::from_std(listener)?), ListenerAddress::Unix(path)))
}

impl Socket {
    async fn accept(&self) -> io::Result<(Plain, ClientAddress)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Replies are small, and the client waits for each.
                let _ = stream.set_nodelay(true);
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                Ok((Plain::Tcp(stream), ClientAddress::Ip(address)))
            }
            #[cfg(unix)]
            Self::Unix(listener) => Ok((Plain::Unix(listener.accept().await?.0), ClientAddress::Unix)),
        }
    }
}

fn accept(context: &Arc<ListenerContext>, mut stream: Plain, address: ClientAddress) {
    if context.shared.relay.get().budget().is_short_of_descriptors(stream.descriptor()) {
        context.shared.observer.observe(&Event::LimitHit { limit: "file_descriptors", app: None });
        let reply = replies::TOO_MANY_CONNECTIONS;
        stream.write_now(format!("{reply}\r\n").as_bytes());
        let reason = "the remaining file descriptors are reserved for health checks and SES: raise LimitNOFILE=";
        return context.refused(address, Some(&reply), reason);
    }
    let guard = match context.shared.limits.enter(address, context.now()) {
        Ok(guard) => guard,
        Err(over) => {
            let (reply, reason) = context.refusal(over);
            context.refused(address, Some(&reply), reason);
            // A task, so that accepting continues; short, because a refused connection must cost little.
            context.shared.tasks.spawn(async move {
                connection::close_with(&mut stream, &reply, ACCEPT_PAUSE).await;
            });
            return;
        }
    };
    let (context, tasks) = (Arc::clone(context), context.shared.tasks.clone());
    let Some(thread) = context.shared.threads.enter() else {
        tasks.spawn(serve(context, stream, address, guard));
        return;
    };
    let (moving, runtime) = (stream.deregister(), thread.runtime());
    let served = async move {
        match moving.and_then(UnregisteredStream::register) {
            Ok(stream) => serve(context, stream, address, guard).await,
            Err(error) => context.refused(address, None, &format!("cannot serve the connection: {error}")),
        }
        drop(thread);
    };
    tasks.spawn_on(served, &runtime);
}

/// Serves a connection to its end, or until all connections are cut.
fn serve(
    context: Arc<ListenerContext>,
    stream: Plain,
    address: ClientAddress,
    guard: ConnectionGuard,
) -> impl Future<Output = ()> + Send {
    let cut = context.shared.cut.clone();
    // Boxed, otherwise the task would reserve its memory twice: for the argument, and for the running future.
    let served = Box::pin(connection::serve(context, stream, address, guard));
    async move {
        tokio::select! {
            () = cut.cancelled() => {}
            () = served => {}
        }
    }
}
