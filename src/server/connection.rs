//! One connection: carries octets between socket and session, and questions between session and handler.
//!
//! One loop: do what the session requests, send what is ready, wait for octets or the deadline. While a question is open, nothing
//! is read: what the client sends stays in the socket, which bounds it, and a client that disconnects does not cancel the question.

use super::connection_limits::ConnectionGuard;
use super::handshake::{NotBegun, handshake};
use super::listener_context::ListenerContext;
use super::proxy::{self, ProxyHeader};
use super::stream::{AcceptedStream, Plain, Stream};
use crate::mail::{Abandonment, Client, ClientAddress, Reply, SessionId};
use crate::observe::Event;
use crate::relay::SessionHandler;
use crate::smtp::{Action, AuthMode, Question, Session, TlsMode};
use bytes::BytesMut;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{self, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long a client may take to read a reply.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Octets that are read and discarded after the last reply: as much as a client may have in transit.
const LINGER_OCTETS_MAX: usize = 8 * 1024 * 1024;
/// How long they are read.
const LINGER_WAIT_MAX: Duration = Duration::from_secs(5);
/// Octets that are read at a time: few for commands, because many connections wait for one.
const READ_OCTETS: usize = 4 * 1024;
const READ_CONTENT_OCTETS: usize = 64 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve(
    context: Arc<ListenerContext>,
    stream: Plain,
    address: ClientAddress,
    mut guard: ConnectionGuard,
) {
    let shed = guard.shed();
    let begun = tokio::select! {
        begun = Box::pin(begin(&context, stream, address, &mut guard)) => begun,
        () = cancelled(shed.as_ref()) => {
            return context.refused(address, None, "closed before the session began: another client needs the connection");
        }
    };
    let Some((client, stream, early)) = begun else { return };
    let handler = SessionHandler::new(context.shared.relay.clone(), client, context.smtp.auth != AuthMode::Off);
    let session = Session::new(Arc::clone(&context.smtp), context.now());
    let drain = Box::pin(context.shared.draining.clone().cancelled_owned());
    let shed = guard.shed().map(|shed| Box::pin(shed.cancelled_owned()));
    let mut connection = Connection { context, stream, session, handler, guard, drain, shed, timer: Timer::default() };
    connection.session.handle_octets(&early, connection.context.now());
    // Any socket error means that the client has gone. It is still responsible for every message without a 250.
    let why = connection.run().await.map_or(Abandonment::ConnectionLost, |()| Abandonment::ClientClosed);
    // Boxed, so that a connection does not reserve the memory for its end from the start.
    Box::pin(connection.handler.end(why)).await;
    drop(connection.guard);
}

/// Determines the client's address, checks the connection limits, and does the handshake of implicit TLS. `None`: the
/// connection is refused, which is logged.
async fn begin(
    context: &ListenerContext,
    stream: Plain,
    address: ClientAddress,
    guard: &mut ConnectionGuard,
) -> Option<(Client, Stream, BytesMut)> {
    let mut opened = AcceptedStream { stream, early: BytesMut::new() };
    let wait = context.settings.handshake_wait_max;
    let address = client_address(context, &mut opened, address, wait)
        .await
        .inspect_err(|error| not_begun(context, address, error))
        .ok()?;
    if let Some(network) = address.network()
        && let Err(over) = guard.take_by(network, context.now())
    {
        let (reply, reason) = context.refusal(over);
        context.refused(address, Some(&reply), reason);
        // On a TLS listener the client does not expect plain text: only close.
        if context.smtp.tls != TlsMode::Implicit {
            close_with(&mut opened.stream, &reply, LINGER_WAIT_MAX).await;
        }
        return None;
    }
    let mut client = Client::new(SessionId::fresh(), address, Arc::clone(&context.settings.name));
    if context.smtp.tls != TlsMode::Implicit {
        return Some((client, Stream::Plain(opened.stream), opened.early));
    }
    match handshake(context, opened).await {
        Ok((stream, info)) => {
            client.tls = Some(info);
            Some((client, stream, BytesMut::new()))
        }
        Err(error) => {
            not_begun(context, address, &error);
            None
        }
    }
}

fn not_begun(context: &ListenerContext, address: ClientAddress, why: &NotBegun) {
    match why {
        NotBegun::Fault(reason) => context.refused(address, None, reason),
        NotBegun::Silent => {
            let listener = &*context.settings.name;
            context.shared.observer.observe(&Event::Silent { address, listener });
        }
    }
}

/// Writes a reply and closes the connection, within `wait`.
pub(super) async fn close_with(stream: &mut Plain, reply: &Reply, wait: Duration) {
    let line = format!("{reply}\r\n");
    let close = async {
        stream.write_all(line.as_bytes()).await?;
        stream.shutdown().await?;
        linger(stream).await;
        io::Result::Ok(())
    };
    // A client that does not read the line in time sees only the close.
    let _ = tokio::time::timeout(wait, close).await;
}

/// Reads and discards for a moment what a client still sends after the last reply. Closing a socket with unread octets resets
/// the connection, and the client may then lose the reply.
async fn linger(stream: &mut (impl AsyncRead + Unpin)) {
    let mut octets = LINGER_OCTETS_MAX;
    let mut buffer = vec![0; 16 * 1024];
    let discard = async {
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            octets = octets.saturating_sub(read);
            if octets == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER_WAIT_MAX, discard).await;
}

async fn cancelled(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

/// The client's address: that of the socket, or the one in the header of a trusted proxy.
async fn client_address(
    context: &ListenerContext,
    opened: &mut AcceptedStream,
    address: ClientAddress,
    wait: Duration,
) -> Result<ClientAddress, NotBegun> {
    let ClientAddress::Ip(peer) = address else { return Ok(address) };
    if !context.settings.proxies.iter().any(|network| network.contains(&peer.ip())) {
        return Ok(address);
    }
    let header = async {
        loop {
            match proxy::parse(&opened.early) {
                Err(error) => return Err(NotBegun::Fault(error.to_string())),
                Ok(Some((header, octets))) => {
                    drop(opened.early.split_to(octets));
                    return Ok(header);
                }
                Ok(None) => {}
            }
            // Octets after the header are kept for the session, or for the handshake of implicit TLS.
            match opened.stream.read_buf(&mut opened.early).await {
                Ok(1..) => {}
                Ok(0) | Err(_) if opened.early.is_empty() => return Err(NotBegun::Silent),
                Ok(0) => return Err(NotBegun::Fault("closed before the PROXY header".to_owned())),
                Err(error) => return Err(NotBegun::Fault(error.to_string())),
            }
        }
    };
    match tokio::time::timeout(wait, header).await {
        Ok(Ok(ProxyHeader::Client(client))) => Ok(ClientAddress::Ip(client)),
        Ok(Ok(ProxyHeader::Unknown)) => Ok(ClientAddress::Unknown),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(NotBegun::Fault("no PROXY header in time".to_owned())),
    }
}

struct Connection {
    context: Arc<ListenerContext>,
    stream: Stream,
    session: Session,
    handler: SessionHandler,
    guard: ConnectionGuard,
    /// One future for all waits of the connection: registering a new waiter each time costs more than polling this one.
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Completes when another client needs the connection. `None` once the client is recognised.
    shed: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    timer: Timer,
}

/// The timer of all waits. Nearly every wait ends before its deadline, and the next deadline is later, so the timer is not reset
/// until it fires or a deadline is earlier. Resetting takes a lock and may be a system call.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    async fn until(&mut self, deadline: time::Instant) {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().await;
        if sleep.deadline() < deadline {
            sleep.as_mut().reset(deadline);
            sleep.as_mut().await;
        }
    }
}

impl Connection {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            match self.session.poll() {
                Some(Action::Transmit) => self.transmit().await?,
                Some(Action::StartTls) => {
                    self.transmit().await?;
                    Box::pin(self.start_tls()).await?;
                }
                Some(Action::Close) => {
                    self.transmit().await?;
                    tokio::time::timeout(WRITE_WAIT_MAX, self.stream.shutdown()).await??;
                    if !self.session.has_quit() {
                        linger(&mut self.stream).await;
                    }
                    return Ok(());
                }
                Some(action) => {
                    // These waits are long: send ready replies and release memory before.
                    if matches!(action, Action::Ask(Question::Commit { .. } | Question::Authenticate(_))) {
                        self.transmit().await?;
                        self.release_buffer();
                    }
                    self.handler.perform(action, &mut self.session).await;
                    if self.shed.is_some() && self.handler.is_recognised() {
                        self.shed = None;
                        self.guard.recognise(self.context.now());
                    }
                }
                None => {
                    self.transmit().await?;
                    if !self.wait().await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sends what is ready.
    async fn transmit(&mut self) -> io::Result<()> {
        while let Some(octets) = self.session.poll_transmit() {
            let written = async {
                self.stream.write_all(&octets).await?;
                self.stream.flush().await
            };
            tokio::select! {
                biased;
                written = written => written?,
                // The clock is read only if the socket does not accept the octets at once.
                () = async { self.timer.until(time::Instant::now() + WRITE_WAIT_MAX).await } => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        Ok(())
    }

    fn release_buffer(&mut self) {
        let buffer = self.session.input_buffer();
        if buffer.is_empty() {
            *buffer = BytesMut::new();
        }
    }

    /// Waits for octets, the session's deadline, the drain, or a shed connection. False: the client has closed.
    async fn wait(&mut self) -> io::Result<bool> {
        let content = self.session.receives_content();
        let size = if content { READ_CONTENT_OCTETS } else { READ_OCTETS };
        // Growing a command buffer for content would copy it, so an empty one is replaced.
        if !content || self.session.input_buffer().capacity() <= READ_OCTETS {
            self.release_buffer();
        }
        let deadline = self.session.poll_timeout();
        let timeout = async {
            match deadline {
                Some(deadline) => self.timer.until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let already = self.session.is_draining();
        let shed = async {
            match &mut self.shed {
                Some(shed) => shed.await,
                None => std::future::pending().await,
            }
        };
        let (buffer, stream) = (self.session.input_buffer(), &mut self.stream);
        let read = async {
            // A connection that waits for a command holds no buffer.
            stream.readable().await?;
            buffer.reserve(size);
            stream.read_buf(buffer).await
        };
        tokio::select! {
            read = read => {
                let octets = read?;
                self.session.handle_input(self.context.now());
                Ok(octets > 0)
            }
            () = timeout => {
                self.session.handle_timeout(self.context.now());
                Ok(true)
            }
            () = shed => {
                self.shed = None;
                self.session.handle_shed(self.context.now());
                Ok(true)
            }
            () = &mut self.drain, if !already => {
                self.session.handle_drain(self.context.now());
                Ok(true)
            }
        }
    }

    async fn start_tls(&mut self) -> io::Result<()> {
        let placeholder = Stream::Closed(tokio::io::empty());
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, placeholder) else {
            return Err(io::Error::other("TLS inside TLS"));
        };
        let made = handshake(&self.context, AcceptedStream { stream, early: BytesMut::new() }).await;
        let (stream, info) = made.map_err(|why| {
            let reason = match why {
                NotBegun::Fault(reason) => reason,
                NotBegun::Silent => "TLS handshake failed: the client closed after STARTTLS".to_owned(),
            };
            self.handler.not_encrypted(&reason);
            io::Error::from(io::ErrorKind::ConnectionAborted)
        })?;
        self.stream = stream;
        self.handler.encrypted(info).await;
        self.session.handle_tls_established(self.context.now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_ends_in_time_and_is_set_only_where_it_must_be() {
        let (mut timer, begun) = (Timer::default(), time::Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        for later in 0..3 {
            let cut = time::timeout(Duration::from_secs(1), timer.until(at(10 + later))).await;
            assert!(cut.is_err(), "a wait that ends by itself");
        }
        assert_eq!(timer.0.as_ref().map(|sleep| sleep.deadline()), Some(at(10)), "left as it was set first");
        timer.until(at(20)).await;
        assert_eq!(time::Instant::now(), at(20), "ended early, and was set again");
        assert!(time::timeout(Duration::from_secs(1), timer.until(at(60))).await.is_err());
        timer.until(at(30)).await;
        assert_eq!(time::Instant::now(), at(30), "set to end before what it was set to");
        timer.until(at(1)).await;
        assert_eq!(time::Instant::now(), at(30), "what is past does not wait");
    }
}
