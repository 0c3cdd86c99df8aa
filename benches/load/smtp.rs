//! The mail client. It does as little work as possible, so that its cost does not matter.

use crate::drive::{Answer, Load, Sender, Smtp, hash, message, recipients};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The longest reply, in bytes.
const REPLY_OCTETS_MAX: usize = 64 * 1024;
/// The time between two attempts of a client that retries.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Shared by all connections of a load.
pub(crate) struct Common {
    settings: Smtp,
    tls: Option<TlsConnector>,
}

/// One connection at a time.
pub(crate) struct Client {
    common: Arc<Common>,
    source: Option<Ipv4Addr>,
    /// MAIL, all RCPT, and DATA, one command per line.
    commands: Vec<Vec<u8>>,
    /// The content with escaped dots and the end of data.
    content: Vec<u8>,
    connection: Option<Connection>,
    sent: u64,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

/// A client for each connection of the load.
pub(crate) fn clients(load: &Load, settings: &Smtp) -> io::Result<Vec<Client>> {
    let tls = settings.authority.as_ref().map(|path| trusting(path)).transpose()?;
    let common = Arc::new(Common { settings: settings.clone(), tls });
    Ok((0..load.connections)
        .map(|number| {
            // Spread over all applications; 61 has no divisor in common with a thousand.
            let application = if settings.applications == 0 { 0 } else { number * 61 % settings.applications };
            let source = (settings.applications > 0).then(|| crate::network::address(settings.network, application));
            let message = message(application, load.octets);
            // Like smtplib, curl and others.
            let size = message.len();
            let mut commands = vec![format!("MAIL FROM:<billing@app{application}.example.com> SIZE={size}\r\n")];
            commands.extend(recipients(load.recipients).map(|name| format!("RCPT TO:<{name}>\r\n")));
            commands.push("DATA\r\n".to_owned());
            let commands = commands.into_iter().map(String::into_bytes).collect();
            let content = stuffed(&message);
            Client { common: Arc::clone(&common), source, commands, content, connection: None, sent: 0 }
        })
        .collect())
}

fn trusting(authority: &std::path::Path) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// RFC 5321 §4.5.2.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + message.len() / 50 + 8);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

impl Sender for Client {
    async fn prepare(&mut self) -> io::Result<()> {
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
            self.sent = 0;
        }
        Ok(())
    }

    async fn send(&mut self) -> io::Result<Answer> {
        loop {
            let answer = self.attempt().await;
            if answer.is_err() {
                self.connection = None;
            }
            match answer? {
                Answer::Refused(code) if self.common.settings.patient && (400..500).contains(&code) => {
                    if code == 421 {
                        self.connection = None;
                    }
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                answer => return Ok(answer),
            }
        }
    }

    async fn end(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            // A missing reply to QUIT is ignored: all messages were answered.
            let _ = connection.say(b"QUIT\r\n").await;
        }
    }
}

impl Client {
    async fn connect(&self) -> io::Result<Connection> {
        let settings = &self.common.settings;
        let socket = match settings.server {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        if let Some(source) = self.source {
            socket.set_reuseaddr(true)?;
            socket.bind((source, 0).into())?;
        }
        let stream = socket.connect(settings.server).await?;
        stream.set_nodelay(true)?;
        let mut connection = Connection { stream: Box::new(stream), buffer: Vec::new() };
        expect(connection.reply().await?.0, 220)?;
        expect(connection.say(b"EHLO client.example\r\n").await?.0, 250)?;
        if let Some(tls) = &self.common.tls {
            expect(connection.say(b"STARTTLS\r\n").await?.0, 220)?;
            let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
            connection.stream = Box::new(tls.connect(name, connection.stream).await?);
            expect(connection.say(b"EHLO client.example\r\n").await?.0, 250)?;
        }
        if let Some((name, password)) = &settings.login {
            use base64::Engine as _;
            let plain = base64::engine::general_purpose::STANDARD.encode(format!("\0{name}\0{password}"));
            expect(connection.say(format!("AUTH PLAIN {plain}\r\n").as_bytes()).await?.0, 235)?;
        }
        Ok(connection)
    }

    async fn attempt(&mut self) -> io::Result<Answer> {
        self.prepare().await?;
        let Some(connection) = &mut self.connection else { return Err(io::ErrorKind::NotConnected.into()) };
        if self.common.settings.pipelining {
            connection.stream.write_all(&self.commands.concat()).await?;
        }
        let mut refusal = None;
        for (number, command) in self.commands.iter().enumerate() {
            if !self.common.settings.pipelining {
                connection.stream.write_all(command).await?;
            }
            let code = connection.reply().await?.0;
            let want = if number + 1 == self.commands.len() { 354 } else { 250 };
            if code != want {
                refusal.get_or_insert(code);
                if !self.common.settings.pipelining {
                    break;
                }
            }
        }
        if let Some(code) = refusal {
            if code == 421 {
                self.connection = None;
            } else {
                connection.say(b"RSET\r\n").await?;
            }
            return Ok(Answer::Refused(code));
        }
        let (code, id) = connection.say(&self.content).await?;
        self.sent += 1;
        if self.common.settings.messages_per_connection.is_some_and(|most| self.sent >= most) {
            connection.say(b"QUIT\r\n").await?;
            self.connection = None;
        } else if code == 421 {
            self.connection = None;
        }
        Ok(if code == 250 { Answer::Accepted(id) } else { Answer::Refused(code) })
    }
}

fn expect(got: u16, want: u16) -> io::Result<()> {
    if got == want { Ok(()) } else { Err(io::Error::other(format!("{got} instead of {want}"))) }
}

impl Connection {
    async fn say(&mut self, octets: &[u8]) -> io::Result<(u16, u64)> {
        self.stream.write_all(octets).await?;
        self.stream.flush().await?;
        self.reply().await
    }

    /// The code of the next reply, and the hash of the last word of its last line.
    async fn reply(&mut self) -> io::Result<(u16, u64)> {
        loop {
            let mut at = 0;
            while let Some(length) = self.buffer[at..].iter().position(|octet| *octet == b'\n') {
                let line = &self.buffer[at..at + length];
                at += length + 1;
                if line.get(3) == Some(&b'-') {
                    continue;
                }
                let code = line.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
                let code = code.ok_or_else(|| io::Error::other("not a reply"))?;
                let id = hash(line.trim_ascii_end().rsplit(|octet| *octet == b' ').next().unwrap_or(line));
                self.buffer.drain(..at);
                return Ok((code, id));
            }
            if self.buffer.len() > REPLY_OCTETS_MAX {
                return Err(io::Error::other("a reply without end"));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
