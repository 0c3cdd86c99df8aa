//! One connection: octets between socket and session, questions between session and visit.
//!
//! One loop — do what the session says, send what is ready, wait for octets or the deadline. While a question is open
//! nothing is read: what the peer sends meanwhile stays in the socket, which bounds it.

use super::caps::Place;
use super::listener::{refusal, refused};
use super::proxy::{self, ProxyHeader};
use super::stream::{Plain, Stream};
use super::{ListenerSettings, Shared, tls};
use crate::mail::{Abandonment, Client, ClientAddress, SessionId, TlsInfo};
use crate::relay::Visit;
use crate::smtp::{Action, AuthMode, Question, Session, TlsMode};
use bytes::BytesMut;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{self, Sleep, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// A listener, as its connections see it.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) settings: ListenerSettings,
    pub(super) shared: Shared,
    smtp: Arc<crate::smtp::Settings>,
}

impl Door {
    pub(super) fn new(settings: ListenerSettings, shared: Shared) -> Self {
        let smtp = Arc::new(settings.smtp.clone());
        Self { settings, shared, smtp }
    }

    fn now(&self) -> Instant {
        self.shared.relay.clock().now()
    }
}

/// How long a peer may take to read what we write.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(60);
/// What is read at a time: small while commands come, since an idle connection keeps its buffer.
const READ_OCTETS: usize = 4 * 1024;
const READ_CONTENT_OCTETS: usize = 64 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve(door: Arc<Door>, stream: Plain, address: ClientAddress, mut place: Place) {
    let mut opened = Opened { stream, early: BytesMut::new() };
    let wait = door.settings.handshake_wait_max;
    let address = match Box::pin(client_address(&door, &mut opened, address, wait)).await {
        Ok(address) => address,
        Err(error) => return refused(&door, address, None, &error.to_string()),
    };
    if let ClientAddress::Ip(ip) = address
        && let Err(over) = place.take_by(ip.ip())
    {
        let (reply, reason) = refusal(&door, over);
        refused(&door, address, Some(&reply), reason);
        let line = format!("{reply}\r\n");
        // On a TLS listener the line is not understood; closing is.
        if door.smtp.tls != TlsMode::Implicit {
            let _ = tokio::time::timeout(WRITE_WAIT_MAX, opened.stream.write_all(line.as_bytes())).await;
        }
        return;
    }
    let mut client = Client::new(SessionId::fresh(), address, Arc::clone(&door.settings.name));
    let (stream, early) = if door.smtp.tls == TlsMode::Implicit {
        match Box::pin(handshake(&door, opened)).await {
            Ok((stream, info)) => {
                client.tls = Some(info);
                (stream, BytesMut::new())
            }
            Err(error) => return refused(&door, address, None, &format!("TLS handshake failed: {error}")),
        }
    } else {
        (Stream::Plain(opened.stream), opened.early)
    };
    let visit = door.shared.relay.visit(client, door.smtp.auth != AuthMode::Off);
    let session = Session::new(Arc::clone(&door.smtp), door.now());
    let drain = Box::pin(door.shared.draining.clone().cancelled_owned());
    let mut connection = Connection { door, stream, session, visit, drain, timer: Timer::default() };
    connection.session.handle_octets(&early, connection.door.now());
    // Whatever went wrong with the socket, the peer is gone; what it had not been told 250 for is still its own.
    let why = connection.run().await.map_or(Abandonment::ConnectionLost, |()| Abandonment::ClientClosed);
    // Boxed: a connection should not carry the frame of its end from the beginning.
    Box::pin(connection.visit.end(why)).await;
    drop(place);
}

/// A connection before TLS, with what was read of it too early.
struct Opened {
    stream: Plain,
    early: BytesMut,
}

/// Where the client is: as the socket says, or as a trusted proxy's header says.
async fn client_address(
    door: &Door,
    opened: &mut Opened,
    address: ClientAddress,
    wait: Duration,
) -> io::Result<ClientAddress> {
    let ClientAddress::Ip(peer) = address else { return Ok(address) };
    if !door.settings.proxies.iter().any(|network| network.contains(&peer.ip())) {
        return Ok(address);
    }
    let header = async {
        loop {
            match proxy::parse(&opened.early) {
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                Ok(Some((header, octets))) => {
                    drop(opened.early.split_to(octets));
                    return Ok(header);
                }
                Ok(None) => {}
            }
            // Octet by octet would be exact and slow; what comes behind the header is kept, and with implicit TLS given
            // to the handshake.
            if opened.stream.read_buf(&mut opened.early).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the PROXY header"));
            }
        }
    };
    match tokio::time::timeout(wait, header).await {
        Ok(Ok(ProxyHeader::Client(client))) => Ok(ClientAddress::Ip(client)),
        Ok(Ok(ProxyHeader::Unknown)) => Ok(ClientAddress::Unknown),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no PROXY header in time")),
    }
}

async fn handshake(door: &Door, opened: Opened) -> io::Result<(Stream, TlsInfo)> {
    let tls = door.settings.tls.as_ref().ok_or_else(|| io::Error::other("listener has no certificate"))?;
    let acceptor = TlsAcceptor::from(tls.config());
    let stream = super::stream::Replay::new(opened.early, opened.stream);
    let accepted = tokio::time::timeout(door.settings.handshake_wait_max, acceptor.accept(stream)).await;
    let stream = accepted.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long"))??;
    let info = tls::info(stream.get_ref().1);
    Ok((Stream::Tls(Box::new(stream)), info))
}

struct Connection {
    door: Arc<Door>,
    stream: Stream,
    session: Session,
    visit: Visit,
    /// One for all waits of the connection: to enter the list of those that wait for it, and to leave it, costs more than
    /// to look again.
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    timer: Timer,
}

/// Ends waits. Nearly every wait ends by itself, and the next one would end later; so the timer is left as it is set, until
/// it ends or something is to end before it. To set one takes a lock and may be a system call.
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
                    return tokio::time::timeout(WRITE_WAIT_MAX, self.stream.shutdown()).await?;
                }
                Some(action) => {
                    // What takes long must not hold back replies that are ready, nor memory that nobody needs meanwhile.
                    if matches!(action, Action::Ask(Question::Commit { .. } | Question::Authenticate(_))) {
                        self.transmit().await?;
                        self.release_buffer();
                    }
                    self.visit.perform(action, &mut self.session).await;
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
                // The clock is read only where the peer does not take it at once.
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

    /// Waits for octets, for the session's deadline, or for the drain. False: the peer has closed.
    async fn wait(&mut self) -> io::Result<bool> {
        let content = self.session.receives_content();
        let size = if content { READ_CONTENT_OCTETS } else { READ_OCTETS };
        // One for commands, made larger, would be copied, however little there is in it.
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
        let (buffer, stream) = (self.session.input_buffer(), &mut self.stream);
        let read = async {
            // Who waits for a command holds no buffer for it.
            stream.readable().await?;
            buffer.reserve(size);
            stream.read_buf(buffer).await
        };
        tokio::select! {
            read = read => {
                let octets = read?;
                self.session.handle_input(self.door.now());
                Ok(octets > 0)
            }
            () = timeout => {
                self.session.handle_timeout(self.door.now());
                Ok(true)
            }
            () = &mut self.drain, if !already => {
                self.session.handle_drain(self.door.now());
                Ok(true)
            }
        }
    }

    async fn start_tls(&mut self) -> io::Result<()> {
        let placeholder = Stream::Closed(tokio::io::empty());
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, placeholder) else {
            return Err(io::Error::other("TLS inside TLS"));
        };
        let made = handshake(&self.door, Opened { stream, early: BytesMut::new() }).await;
        let (stream, info) =
            made.inspect_err(|error| self.visit.not_encrypted(&format!("TLS handshake failed: {error}")))?;
        self.stream = stream;
        self.visit.encrypted(info).await;
        self.session.handle_tls_established(self.door.now());
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
