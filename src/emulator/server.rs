//! Sockets: listening, one task for each connection, and the reset that a fault requests.
//!
//! The number of connections is bounded; further ones wait in the listen queue. A peer that is not on loopback is
//! disconnected at once: it cannot reach a loopback address, and the check costs nothing. When the emulator stops,
//! every connection is closed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::connection::Connection;
use super::{Shared, routes};

/// Serves until `stop` fires; returns when every connection is closed.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>, mut stop: oneshot::Receiver<Infallible>) {
    let permits = Arc::new(Semaphore::new(shared.settings.bounds.connections_max.max(1)));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // The sender is dropped to stop: it never sends.
            _ = &mut stop => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let Some((stream, peer, permit)) = accepted else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            serve(stream, peer, shared).await;
            drop(permit);
        });
    }
    drop(listener);
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            // Probably out of file descriptors: without the wait, the error would repeat at once.
            tracing::warn!(%error, "emulator: accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    if !peer.ip().is_loopback() {
        return;
    }
    let request_log = Arc::clone(&shared.request_log);
    let number = request_log.connections_opened.fetch_add(1, Ordering::Relaxed) + 1;
    request_log.connections_open.fetch_add(1, Ordering::Relaxed);
    let _open = OnDrop(|| {
        request_log.connections_open.fetch_sub(1, Ordering::Relaxed);
    });
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "emulator: TCP_NODELAY");
    }
    let connection = Arc::new(Connection::new(number));
    let head_time_max = shared.settings.bounds.head_time_max;
    let service = service_fn({
        let connection = Arc::clone(&connection);
        move |request| routes::serve(Arc::clone(&shared), Arc::clone(&connection), request)
    });
    let mut http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time_max)
        .max_buf_size(BUFFER_OCTETS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let must_reset = tokio::select! {
        () = connection.must_reset() => true,
        result = &mut http => {
            if let Err(error) = result {
                tracing::debug!(%error, "emulator: connection ended");
            }
            false
        }
    };
    if must_reset {
        // Closing with nothing to linger for sends RST instead of FIN.
        let stream = http.into_parts().io.into_inner();
        if let Err(error) = stream.set_zero_linger() {
            tracing::warn!(%error, "emulator: connection is closed instead of reset");
        }
    }
}

/// Runs a function on every exit, including cancellation.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The limit of hyper's read buffer, and therefore of the head of a request.
const BUFFER_OCTETS_MAX: usize = 256 * 1024;
