//! A small HTTP/1.1 client and a SigV4 signer, written from the specifications and used by tests only.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::emulator::Credential;

/// Nothing on loopback takes this long; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The credentials, the signature and the destination of requests.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) credential: Credential,
    pub(super) region: String,
    pub(super) service: String,
    /// Added to the client's clock.
    pub(super) seconds_ahead: i64,
    /// The declared and signed hash of the body, instead of the real one.
    pub(super) payload_hash: Option<String>,
    /// Whether the hash is sent in its own field.
    pub(super) declares_hash: bool,
    /// Left out of the signed fields.
    pub(super) unsigned_field: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Status and error name.
    pub(super) fn error(&self) -> (u16, &str) {
        (self.status, self.header("x-amzn-errortype").unwrap_or(""))
    }

    pub(super) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or("").to_owned()
    }
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            credential: Credential::default(),
            region: "us-east-1".to_owned(),
            service: "ses".to_owned(),
            seconds_ahead: 0,
            payload_hash: None,
            declares_hash: true,
            unsigned_field: None,
        }
    }

    pub(super) async fn connect(&self) -> Connection {
        Connection { stream: TcpStream::connect(self.address).await.expect("connects"), read: Vec::new() }
    }

    /// One signed request on a connection of its own.
    pub(super) async fn call(&self, method: &str, target: &str, body: &[u8]) -> io::Result<Answer> {
        self.connect().await.exchange(&self.sign(method, target, body)).await
    }

    /// One unsigned request to the control API.
    pub(super) async fn control(&self, method: &str, target: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.connect().await.exchange(request.as_bytes()).await.expect("an answer")
    }

    /// Sends a small message.
    pub(super) async fn send(&self, author: &str, recipient: &str) -> io::Result<Answer> {
        self.send_json(&small_request(author, recipient)).await
    }

    pub(super) async fn send_json(&self, request: &Value) -> io::Result<Answer> {
        self.call("POST", "/v2/email/outbound-emails", request.to_string().as_bytes()).await
    }

    /// The octets of a signed request.
    pub(super) fn sign(&self, method: &str, target: &str, body: &[u8]) -> Vec<u8> {
        let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(self.seconds_ahead);
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &time[..8];
        let hash = self.payload_hash.clone().unwrap_or_else(|| sha256_hex(body));
        let mut fields = vec![("host", self.address.to_string()), ("x-amz-date", time.clone())];
        if self.declares_hash {
            fields.push(("x-amz-content-sha256", hash.clone()));
        }
        if let Some(token) = &self.credential.session_token {
            fields.push(("x-amz-security-token", token.clone()));
        }
        fields.sort();
        let signed: Vec<_> = fields.iter().filter(|(name, _)| Some(*name) != self.unsigned_field).collect();
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let canonical_fields: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // The tests use no other character that is encoded twice, and only sorted queries.
        let canonical_path = path.replace('%', "%25").replace('@', "%40");
        let canonical = format!("{method}\n{canonical_path}\n{query}\n{canonical_fields}\n{names}\n{hash}");
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
        let mut key = format!("AWS4{}", self.credential.secret_access_key).into_bytes();
        for word in scope.split('/') {
            key = hmac_sha256(&key, word.as_bytes());
        }
        let signature = hex(&hmac_sha256(&key, to_sign.as_bytes()));
        let mut head = format!("{method} {target} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in &fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let id = &self.credential.access_key_id;
        head.push_str(&format!(
            "authorization: AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}\r\n\r\n"
        ));
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        request
    }
}

/// One TCP connection.
pub(super) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(super) async fn send(&mut self, client: &Client, author: &str, recipient: &str) -> io::Result<Answer> {
        let body = small_request(author, recipient).to_string();
        self.exchange(&client.sign("POST", "/v2/email/outbound-emails", body.as_bytes())).await
    }

    pub(super) async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.read_answer().await
    }

    pub(super) async fn write(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).await.expect("writes");
    }

    pub(super) async fn closed_by_peer(&mut self) -> bool {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.is_ok()
    }

    /// The head of the next response, without the body.
    pub(super) async fn read_head(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                return Ok(String::from_utf8_lossy(&std::mem::replace(&mut self.read, rest)).into_owned());
            }
            self.fill().await?;
        }
    }

    pub(super) async fn read_answer(&mut self) -> io::Result<Answer> {
        let head = self.read_head().await?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        let answer = Answer { status, head, body: Vec::new() };
        let body = match answer.header("content-length").map(|text| text.parse::<usize>().expect("a number")) {
            Some(length) => self.read_exactly(length).await?,
            None => self.read_chunks().await?,
        };
        Ok(Answer { body, ..answer })
    }

    pub(super) async fn read_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < length {
            self.fill().await?;
        }
        let rest = self.read.split_off(length);
        Ok(std::mem::replace(&mut self.read, rest))
    }

    async fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match find(&self.read, b"\r\n") {
                    Some(end) => break end,
                    None => self.fill().await?,
                }
            };
            let line = self.read_exactly(end + 2).await?;
            let length = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).expect("a chunk length");
            body.extend(self.read_exactly(length).await?);
            self.read_exactly(2).await?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        match timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await {
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
            Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(result) => result.map(|_| ()),
        }
    }
}

pub(super) fn small_request(author: &str, recipient: &str) -> Value {
    request(&format!("From: {author}\r\nTo: {recipient}\r\nSubject: hi\r\n\r\nhello\r\n"), &[recipient])
}

pub(super) fn request(raw: &str, recipients: &[&str]) -> Value {
    json!({
        "Content": {"Raw": {"Data": STANDARD.encode(raw)}},
        "Destination": {"ToAddresses": recipients},
    })
}

/// Waits for something that another task is about to bring about.
pub(super) async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("comes about");
}

fn find(octets: &[u8], wanted: &[u8]) -> Option<usize> {
    octets.windows(wanted.len()).position(|window| window == wanted)
}

fn hmac_sha256(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

fn sha256_hex(octets: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, octets).as_ref())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
