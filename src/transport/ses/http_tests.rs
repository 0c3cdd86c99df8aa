use super::*;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What a server does with the request of that number, counted from 0, on the connection of that number.
type Script = fn(usize, usize) -> Turn;

#[derive(Clone, Copy)]
enum Turn {
    /// Writes that.
    Write(&'static str),
    /// Writes that and closes.
    Last(&'static str),
    /// Writes one of more octets than are read.
    Long,
    /// Nothing, until the other side closes.
    Silence,
}

const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";

struct Server {
    port: u16,
    opened: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Server {
    async fn start(script: Script) -> Self {
        Self::over(None, script).await
    }

    /// Answers every request, and closes a connection that has had none for so long.
    async fn closing_after(idle: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::<AtomicUsize>::default();
        let server = Self { port, opened: Arc::default(), open: Arc::clone(&open) };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let open = Arc::clone(&open);
                tokio::spawn(async move {
                    open.fetch_add(1, Ordering::SeqCst);
                    let mut request = Vec::new();
                    while let Ok(Ok(1..)) = tokio::time::timeout(idle, stream.read_buf(&mut request)).await {
                        if request.ends_with(b"the message") {
                            stream.write_all(FINE.as_bytes()).await.unwrap();
                            request.clear();
                        }
                    }
                    drop(stream);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    async fn over(tls: Option<TlsAcceptor>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (opened, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let server = Self { port, opened: Arc::clone(&opened), open: Arc::clone(&open) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (number, tls, open) = (opened.fetch_add(1, Ordering::SeqCst), tls.clone(), Arc::clone(&open));
                tokio::spawn(async move {
                    open.fetch_add(1, Ordering::SeqCst);
                    match tls {
                        None => serve(stream, number, script).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, number, script).await,
                            Err(_) => None,
                        },
                    };
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}/v2/email/outbound-emails?a=b", self.port)
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    async fn until_open(&self, count: usize) {
        while self.open.load(Ordering::SeqCst) != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, connection: usize, script: Script) -> Option<()> {
    for number in 0.. {
        let mut request = Vec::new();
        while !request.ends_with(b"the message") {
            if stream.read_buf(&mut request).await.ok()? == 0 {
                return None;
            }
        }
        let head = String::from_utf8(request).unwrap().to_lowercase();
        assert!(head.starts_with("post /v2/email/outbound-emails?a=b http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nhost: localhost:"), "{head}");
        match script(connection, number) {
            Turn::Write(answer) => stream.write_all(answer.as_bytes()).await.ok()?,
            Turn::Last(answer) => return stream.write_all(answer.as_bytes()).await.ok(),
            Turn::Long => {
                let length = ANSWER_OCTETS_MAX + 1;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "a".repeat(length));
                stream.write_all(answer.as_bytes()).await.ok()?;
            }
            Turn::Silence => {}
        }
    }
    None
}

fn connector(timeouts: SesTimeouts) -> SharedHttpConnector {
    PooledHttpClient::with_tls(trusting(rustls::RootCertStore::empty()), timeouts).0
}

fn trusting(roots: rustls::RootCertStore) -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn call(connector: &SharedHttpConnector, url: &str) -> Result<String, ConnectorError> {
    let mut request = HttpRequest::new(SdkBody::from("the message"));
    request.set_method("POST").unwrap();
    request.set_uri(url).unwrap();
    let response = connector.call(request).await?;
    assert_eq!(response.status().as_u16(), 200);
    Ok(String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap())
}

/// What [`HttpError`] a failed call comes to.
async fn failure(connector: &SharedHttpConnector, url: &str) -> (bool, String) {
    let error = call(connector, url).await.unwrap_err();
    let http = Error::source(&error).and_then(|source| source.downcast_ref::<HttpError>()).expect("one of ours");
    (http.is_unsent(), http.to_string())
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = Server::start(|_, _| Turn::Write(FINE)).await;
    let connector = connector(SesTimeouts::default());
    for _ in 0..3 {
        assert_eq!(call(&connector, &server.url("http")).await.unwrap(), "fine");
    }
    assert_eq!(server.opened(), 1);
}

#[tokio::test]
async fn no_more_connections_than_calls_at_a_time() {
    let server = Server::start(|_, _| Turn::Write(FINE)).await;
    let (connector, url) = (connector(SesTimeouts::default()), server.url("http"));
    for _ in 0..5 {
        let (one, two) = tokio::join!(call(&connector, &url), call(&connector, &url));
        assert_eq!((one.unwrap(), two.unwrap()), ("fine".to_owned(), "fine".to_owned()));
    }
    assert_eq!(server.opened(), 2);
}

#[tokio::test]
async fn one_of_another_runtime_is_used_while_that_lives() {
    let idle_max = SesTimeouts::default().idle;
    let server = Server::start(|_, _| Turn::Write(FINE)).await;
    let (connector, url) = (connector(SesTimeouts::default()), server.url("http"));
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let there = || {
        other.spawn({
            let (connector, url) = (connector.clone(), url.clone());
            async move { call(&connector, &url).await }
        })
    };
    let (one, two) = tokio::join!(there(), there());
    one.unwrap().and(two.unwrap()).unwrap();
    call(&connector, &url).await.unwrap();
    assert_eq!(server.opened(), 2);
    // Waits for its threads, which may not be done where others are waited for.
    tokio::task::spawn_blocking(|| drop(other)).await.unwrap();
    let (one, two) = tokio::join!(call(&connector, &url), call(&connector, &url));
    one.and(two).unwrap();
    server.until_open(2).await;
    assert_eq!(server.opened(), 4, "both were of the runtime that is gone");
    later(idle_max).await;
    server.until_open(0).await;
}

#[tokio::test]
async fn one_that_the_other_side_closed_is_not() {
    let server = Server::start(|connection, _| match connection {
        0 => Turn::Last(FINE),
        // Kept by the server, and not to be used any more.
        1 => Turn::Write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nfine"),
        _ => Turn::Write(FINE),
    })
    .await;
    let connector = connector(SesTimeouts::default());
    for _ in 0..3 {
        assert_eq!(call(&connector, &server.url("http")).await.unwrap(), "fine");
        server.until_open(usize::from(server.opened() == 3)).await;
    }
    assert_eq!(server.opened(), 3);
}

#[tokio::test]
async fn one_that_has_waited_too_long_is_closed() {
    let idle_max = SesTimeouts::default().idle;
    let server = Server::start(|_, _| Turn::Write(FINE)).await;
    let (connector, url) = (connector(SesTimeouts::default()), server.url("http"));
    let (one, two) = tokio::join!(call(&connector, &url), call(&connector, &url));
    one.and(two).unwrap();
    server.until_open(2).await;
    later(idle_max - Duration::from_secs(1)).await;
    call(&connector, &url).await.unwrap();
    later(Duration::from_secs(1)).await;
    server.until_open(1).await;
    later(idle_max).await;
    server.until_open(0).await;
    call(&connector, &url).await.unwrap();
    assert_eq!(server.opened(), 3);
    later(idle_max).await;
    server.until_open(0).await;
}

/// An endpoint that closes idle connections earlier than we do gave 3 to 15 ambiguous attempts of 64.
#[tokio::test]
async fn an_endpoint_that_closes_idle_connections_costs_no_message() {
    let millisecond = Duration::from_millis(1);
    for idle in [1, 5, 30].map(Duration::from_secs) {
        let server = Server::closing_after(idle).await;
        let (connector, url) = (connector(SesTimeouts::default()), server.url("http"));
        assert_eq!(call(&connector, &url).await.unwrap(), "fine");
        for wait in [idle - millisecond, idle, idle - millisecond, idle + millisecond, idle * 2] {
            later(wait).await;
            if wait >= idle {
                server.until_open(0).await;
            }
            assert_eq!(call(&connector, &url).await.unwrap(), "fine", "closes after {idle:?}, called after {wait:?}");
        }
    }
}

/// The runtime has not heard of the close when the request begins: the octets went out, and no answer came.
#[test]
fn a_close_just_as_the_request_starts_is_not_sent() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (close, closing) = std::sync::mpsc::channel::<()>();
    let (closed, is_closed) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"the message") {
                let mut octets = [0; 1024];
                let read = stream.read(&mut octets).unwrap();
                request.extend_from_slice(&octets[..read]);
            }
            stream.write_all(FINE.as_bytes()).unwrap();
            closing.recv().unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connector = connector(SesTimeouts::default());
        let url = format!("http://localhost:{port}/v2/email/outbound-emails?a=b");
        for _ in 0..5 {
            assert_eq!(call(&connector, &url).await.unwrap(), "fine");
            // Without a wait of the runtime, so that it does not look at the socket meanwhile.
            close.send(()).unwrap();
            is_closed.recv().unwrap();
        }
    });
}

#[tokio::test]
async fn without_idle_time_each_call_has_a_connection_of_its_own() {
    let server = Server::start(|_, _| Turn::Write(FINE)).await;
    let connector = connector(SesTimeouts { idle: Duration::ZERO, ..SesTimeouts::default() });
    for _ in 0..3 {
        assert_eq!(call(&connector, &server.url("http")).await.unwrap(), "fine");
    }
    assert_eq!(server.opened(), 3);
    server.until_open(0).await;
}

/// Lets that time pass. The clock runs again when somebody waits for the network: a stopped one would jump.
async fn later(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn whether_anything_was_written_is_known() {
    let millisecond = Duration::from_millis(1);
    let patient = connector(SesTimeouts::default());
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (unsent, text) = failure(&patient, &format!("http://localhost:{closed}/")).await;
    assert!(unsent && text == format!("no connection to http://localhost:{closed}/"), "{text}");

    // Connects, by itself, and says nothing: a server without TLS where TLS is expected.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hurried = connector(SesTimeouts { connect: 100 * millisecond, ..SesTimeouts::default() });
    let (unsent, text) = failure(&hurried, &format!("https://{}/", deaf.local_addr().unwrap())).await;
    assert!(unsent && text.ends_with("within 100ms"), "{text}");

    // Accepts and hangs up: it is not asked again and again.
    let rude = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", rude.local_addr().unwrap());
    let accepted = tokio::spawn(async move {
        let mut accepted = 0;
        while let Ok(Ok(_)) = tokio::time::timeout(300 * millisecond, rude.accept()).await {
            accepted += 1;
        }
        accepted
    });
    failure(&patient, &url).await;
    assert_eq!(accepted.await.unwrap(), 1);

    for (name, script, unsent, text) in [
        ("cut before the answer", (|_, _| Turn::Last("")) as Script, false, "the connection broke"),
        ("cut within its head", |_, _| Turn::Last("HTTP/1.1 200 O"), false, "the connection broke"),
        (
            "cut within its body",
            |_, _| Turn::Last("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfi"),
            false,
            "the connection broke",
        ),
        ("no HTTP", |_, _| Turn::Last("220 mail.example ESMTP\r\n"), false, "the connection broke"),
        ("too long", |_, _| Turn::Long, false, "the connection broke"),
        ("silent", |_, _| Turn::Silence, false, "no answer within 300ms"),
    ] {
        let server = Server::start(script).await;
        let connector = connector(SesTimeouts { read: 300 * millisecond, ..SesTimeouts::default() });
        assert_eq!(failure(&connector, &server.url("http")).await, (unsent, text.to_owned()), "{name}");
        server.until_open(0).await;
    }
}

#[cfg(feature = "cli")]
#[tokio::test]
async fn tls_is_checked() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let settings = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let server = Server::over(Some(TlsAcceptor::from(Arc::new(settings))), |_, _| Turn::Write(FINE)).await;

    let (unsent, text) = failure(&connector(SesTimeouts::default()), &server.url("https")).await;
    assert!(unsent, "{text}");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let trusting = PooledHttpClient::with_tls(trusting(roots), SesTimeouts::default()).0;
    for _ in 0..2 {
        assert_eq!(call(&trusting, &server.url("https")).await.unwrap(), "fine");
    }
    assert_eq!(server.opened(), 2, "one that was not trusted, one that was used twice");
    let (unsent, _) = failure(&trusting, &server.url("https").replace("localhost", "127.0.0.1")).await;
    assert!(unsent, "a certificate for another name");
}

#[test]
fn the_host_is_the_one_that_was_signed() {
    for (url, origin, host, path) in [
        (
            "https://email.eu-west-1.amazonaws.com/v2/a?b",
            "https://email.eu-west-1.amazonaws.com/",
            "email.eu-west-1.amazonaws.com",
            "/v2/a?b",
        ),
        ("https://a.example:443/v2", "https://a.example:443/", "a.example", "/v2"),
        ("http://a.example:443/v2", "http://a.example:443/", "a.example:443", "/v2"),
        ("http://[::1]:8080", "http://[::1]:8080/", "[::1]:8080", "/"),
    ] {
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(url).unwrap();
        let (to, request) = split_origin(request).unwrap();
        assert_eq!((to.to_string(), request.uri().to_string()), (origin.to_owned(), path.to_owned()));
        assert_eq!(request.headers()[HOST], host, "{url}");
    }
}
