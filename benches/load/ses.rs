//! Sends without SMTP: the baseline, and the maximum rate of the emulator.
//!
//! The baseline is the bare `aws-sdk-sesv2` as a careful program configures it (no retries, all timeouts, the SDK's own
//! HTTP client), with as many callers as the relay has connections. It is the cost for an application that calls SES itself.

use crate::drive::{Answer, Load, Sender, hash, message, recipients};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::config::{Credentials, StalledStreamProtectionConfig};
use aws_sdk_sesv2::primitives::Blob;
use aws_sdk_sesv2::types::{Destination, EmailContent, RawMessage};
use gatepost::emulator::Credential;
use gatepost::transport::ses::SesTimeouts;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const REGION: &str = "us-east-1";

/// One caller.
pub(crate) struct Caller {
    client: Client,
    content: Arc<Vec<u8>>,
    recipients: usize,
}

/// Clients by endpoint. A program creates one client and keeps it with its connections.
pub(crate) type Clients = HashMap<String, Client>;

/// One caller for each connection of the load; they share a client, like the tasks of a program.
pub(crate) fn callers(load: &Load, endpoint: &str, clients: &mut Clients) -> Vec<Caller> {
    let client = clients.entry(endpoint.to_owned()).or_insert_with(|| client(endpoint));
    let content = Arc::new(message(0, load.octets));
    let caller = || Caller { client: client.clone(), content: Arc::clone(&content), recipients: load.recipients };
    std::iter::repeat_with(caller).take(load.connections).collect()
}

fn client(endpoint: &str) -> Client {
    let pair = Credential::default();
    let timeouts = SesTimeouts::default();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.read)
        .operation_attempt_timeout(timeouts.attempt)
        .operation_timeout(timeouts.operation)
        .build();
    let config = aws_sdk_sesv2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new(pair.access_key_id, pair.secret_access_key, None, None, "benchmark"));
    Client::from_conf(config.build())
}

impl Sender for Caller {
    async fn prepare(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn send(&mut self) -> io::Result<Answer> {
        let raw = RawMessage::builder().data(Blob::new(self.content.as_slice())).build().map_err(io::Error::other)?;
        let call = self
            .client
            .send_email()
            .content(EmailContent::builder().raw(raw).build())
            .destination(Destination::builder().set_bcc_addresses(Some(recipients(self.recipients).collect())).build())
            .feedback_forwarding_email_address("billing@app0.example.com");
        match call.send().await {
            Ok(output) => Ok(Answer::Accepted(hash(output.message_id().unwrap_or("").as_bytes()))),
            Err(error) => match error.raw_response() {
                Some(answer) => Ok(Answer::Refused(answer.status().as_u16())),
                None => Err(io::Error::other(error)),
            },
        }
    }

    async fn end(&mut self) {}
}

/// Sends the same request repeatedly.
pub(crate) struct Repeater {
    address: SocketAddr,
    request: Arc<Vec<u8>>,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// The request was captured from the SDK. It is signed once; the emulator accepts the signature for some minutes.
pub(crate) async fn repeaters(load: &Load, endpoint: &str) -> io::Result<Vec<Repeater>> {
    let address = endpoint.trim_start_matches("http://").parse().map_err(io::Error::other)?;
    let request = Arc::new(caught(load).await?);
    let repeater = || Repeater { address, request: Arc::clone(&request), stream: None, buffer: Vec::new() };
    Ok(std::iter::repeat_with(repeater).take(load.connections).collect())
}

async fn caught(load: &Load) -> io::Result<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let mut caller =
        callers(load, &endpoint, &mut Clients::new()).pop().ok_or_else(|| io::Error::other("no connections"))?;
    let call = tokio::spawn(async move { caller.send().await });
    let (mut stream, _) = listener.accept().await?;
    let mut request = Vec::new();
    while complete(&request).is_none() {
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"MessageId\":\"1\"}").await?;
    // The SDK's result does not matter.
    let _ = call.await;
    Ok(request)
}

/// The range of the body of an HTTP/1.1 message, if it is complete.
fn complete(octets: &[u8]) -> Option<(usize, usize)> {
    let head = octets.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&octets[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (octets.len() >= head + length).then_some((head, head + length))
}

impl Sender for Repeater {
    async fn prepare(&mut self) -> io::Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        Ok(())
    }

    async fn send(&mut self) -> io::Result<Answer> {
        self.prepare().await?;
        let Some(stream) = &mut self.stream else { return Err(io::ErrorKind::NotConnected.into()) };
        stream.write_all(&self.request).await?;
        self.buffer.clear();
        let (begins, ends) = loop {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(body) = complete(&self.buffer) {
                break body;
            }
        };
        let code = self.buffer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        Ok(match code {
            Some(200) => Answer::Accepted(hash(&self.buffer[begins..ends])),
            code => Answer::Refused(code.unwrap_or(0)),
        })
    }

    async fn end(&mut self) {}
}
