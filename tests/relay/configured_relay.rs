//! A relay as an operator has it: from the text of a configuration file to an emulator, with clients from anywhere.
//!
//! The listener `plain` believes PROXY headers of this machine, so a test can be a client of any address.

use crate::support::{Log, Smtp, with};
use gatepost::builder::{Explanation, Facts, Running};
use gatepost::config::{Config, Plan, ProcessEnvironment, Purpose, Upstream};
use gatepost::emulator::{CapturedMessage, Emulator};
use gatepost::mail::{Outcome, Permitted};
use gatepost::server::ListenerAddress;
use gatepost::transport::Transport;
use gatepost::transport::ses::SesTransport;
use std::path::Path;
use std::time::Instant;
use tokio::net::TcpStream;

/// Lines in front of every configuration here; sections follow.
pub const HEAD: &str = "hostname = 'relay.example'\n\
    [[listener]]\nname = 'plain'\naddress = '127.0.0.1:0'\nproxy_protocol_from = ['127.0.0.1']\n\
    [ses]\nemulator = true\n\
    [ses_emulator]\nidentities = ['example.com', 'a.example', 'b.example']\n\
    configuration_sets = ['common', 'set-a', 'set-b']\n";

pub struct Site {
    pub emulator: Emulator,
    pub running: Running,
    pub log: Log,
    text: String,
}

pub fn plan(text: &str) -> Plan {
    let config = Config::parse(Path::new("f"), text, std::iter::empty());
    let planned = config.and_then(|config| {
        let sockets = &mut |_: &str| Err("no sockets".to_owned());
        config.plan(&ProcessEnvironment::default(), Purpose::Start { sockets })
    });
    planned.unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// What a message meets on its way in.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    pub client: &'a str,
    pub auth: Option<&'a str>,
    pub from: &'a str,
    pub to: &'a [&'a str],
    pub text: &'a str,
}

impl Default for Note<'_> {
    fn default() -> Self {
        Self {
            client: "10.1.0.1",
            auth: None,
            from: "ann@a.example",
            to: &["bob@elsewhere.example"],
            text: "From: ann@a.example\r\nSubject: x\r\n\r\nx\r\n",
        }
    }
}

impl Site {
    pub async fn start(sections: &str) -> Self {
        Self::of(format!("{HEAD}{sections}")).await
    }

    /// The same with lines in `[ses]`.
    pub async fn start_with_ses(lines: &str, sections: &str) -> Self {
        let head = HEAD.replacen("[ses]\n", &format!("[ses]\n{lines}"), 1);
        Self::of(format!("{head}{sections}")).await
    }

    /// The same with AUTH, and a user whose password is `secret`.
    pub async fn with_user(name: &str, sections: &str) -> Self {
        let listener = "auth = 'optional'\nauth_in_clear = true\nproxy_protocol_from";
        let head = HEAD.replacen("proxy_protocol_from", listener, 1);
        let hash = bcrypt::hash("secret", 4).unwrap();
        Self::of(format!("{head}{sections}[auth.users]\n'{name}' = '{hash}'\n")).await
    }

    async fn of(text: String) -> Self {
        let plan = plan(&text);
        let Upstream::Emulator(emulation) = &plan.upstream else { panic!("no emulator") };
        let mut settings = emulation.emulator.clone();
        settings.delegated_identity_arns = vec!["arn:aws:ses:us-east-1:444455556666:identity/other.example".to_owned()];
        let emulator = Emulator::start(settings).await.unwrap();
        let transport = SesTransport::connect(emulation.ses(emulator.endpoint_url())).await.unwrap();
        let log = Log::default();
        let limits = plan.local_limiter(None).unwrap();
        let mut builder = plan.builder(transport).observer(log.clone());
        if let Some(limits) = limits {
            builder = builder.limiter(limits);
        }
        let running = builder.start().unwrap();
        Self { emulator, running, log, text }
    }

    /// A client there, greeted, EHLO said.
    pub async fn connect(&self, from: &str) -> Smtp<TcpStream> {
        let ListenerAddress::Tcp(address) = self.running.address("plain").unwrap() else { panic!() };
        let mut client = Smtp::over(TcpStream::connect(address).await.unwrap());
        let family = if from.contains(':') { "TCP6 ::1" } else { "TCP4 127.0.0.1" };
        let (family, server) = family.split_once(' ').unwrap();
        client.say(&format!("PROXY {family} {} {server} 40000 25", from)).await;
        client.expect("220").await;
        client.say("EHLO client.example").await;
        client.expect("250").await;
        client
    }

    /// Every reply of a dialogue, in order: AUTH, MAIL, each RCPT, DATA and the message, as far as it goes.
    pub async fn replies(&self, note: &Note<'_>) -> Vec<String> {
        let mut client = self.connect(note.client).await;
        let mut replies = Vec::new();
        if let Some(name) = note.auth {
            use base64::Engine as _;
            let response = base64::engine::general_purpose::STANDARD.encode(format!("\0{name}\0secret"));
            client.say(&format!("AUTH PLAIN {response}")).await;
            replies.push(client.reply().await);
            if !replies[0].starts_with("235") {
                return replies;
            }
        }
        client.say(&format!("MAIL FROM:<{}>", note.from)).await;
        replies.push(client.reply().await);
        if !replies.last().unwrap().starts_with("250") {
            return replies;
        }
        let mut accepted = 0;
        for path in note.to {
            client.say(&format!("RCPT TO:<{path}>")).await;
            replies.push(client.reply().await);
            accepted += usize::from(replies.last().unwrap().starts_with("250"));
        }
        if accepted == 0 {
            return replies;
        }
        client.say("DATA").await;
        replies.push(client.reply().await);
        if replies.last().unwrap().starts_with("354") {
            client.content(note.text).await;
            replies.push(client.reply().await);
        }
        replies
    }

    /// The first refusal, or the reply to the message.
    pub async fn send(&self, note: &Note<'_>) -> String {
        let replies = self.replies(note).await;
        let refused = replies.iter().find(|reply| reply.starts_with(['4', '5']));
        refused.or(replies.last()).unwrap().clone()
    }

    pub fn newest(&self) -> CapturedMessage {
        self.emulator.messages().pop().expect("a message")
    }

    /// The same message, explained.
    pub async fn explain(&self, note: &Note<'_>) -> Explanation {
        let facts = with(Facts::default(), |it| {
            it.client = Some(gatepost::mail::ClientAddress::Ip(
                (note.client.parse::<std::net::IpAddr>().unwrap(), 40_000).into(),
            ));
            it.identity = note.auth.map(str::to_owned);
            it.reverse_path = note.from.to_owned();
            it.forward_paths = note.to.iter().map(|path| (*path).to_owned()).collect();
            it.message = note.text.as_bytes().to_vec().into();
        });
        let plan = plan(&self.text);
        let limits = plan.limits_seen().unwrap();
        let builder = plan.builder(Unused);
        let builder = if let Some(limits) = limits { builder.limiter(limits) } else { builder };
        builder.explain(&facts).await.unwrap()
    }
}

/// The header section of what SES got.
pub fn header(message: &CapturedMessage) -> String {
    let text = String::from_utf8(message.raw.to_vec()).unwrap();
    text.split("\r\n\r\n").next().unwrap().to_owned() + "\r\n"
}

struct Unused;

#[async_trait::async_trait]
impl Transport for Unused {
    async fn send(&self, _message: Permitted, _deadline: Instant) -> Outcome {
        panic!("an explanation sends nothing")
    }
}
