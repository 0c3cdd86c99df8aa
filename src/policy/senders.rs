//! The built-in policy: which clients may send, and as whom.
//!
//! One rule for all clients: the reverse-path, every author and the Sender must each fit one of the patterns. Checked in
//! that order; the first that does not fit decides.

use super::pattern::AddressPattern;
use super::{MailFacts, MessageFacts, Policy, PolicyDecision, PolicyError, RcptFacts, Reason};
use crate::mail::parameters::RequestedField;
use crate::mail::{Client, ClientAddress, Granted, Mailbox, Reply, ReversePath, RuleName, SendParameters, replies};
use async_trait::async_trait;
use ipnet::IpNet;

/// Allowed From patterns and allowed clients.
#[derive(Clone, Debug)]
pub struct SenderPolicy {
    /// Addresses that may stand in MAIL FROM, From and Sender.
    pub from: Vec<AddressPattern>,
    /// Networks whose clients may send without more. Whoever authenticated, showed a verified client certificate or came
    /// over a Unix socket may send from anywhere.
    pub clients: Vec<IpNet>,
    /// Whether `MAIL FROM:<>` may send. SES has no null reverse-path: notices then go where the account sends them.
    pub null_reverse_path: bool,
    /// `X-SES-*` fields that applications may set.
    pub requested_fields: Vec<RequestedField>,
    /// What every message gets.
    pub send: SendParameters,
}

impl SenderPolicy {
    /// Clients on this machine, addresses of these patterns, nothing else.
    pub fn local(from: Vec<AddressPattern>) -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"];
        Self {
            from,
            clients: loopback.iter().filter_map(|net| net.parse().ok()).collect(),
            null_reverse_path: false,
            requested_fields: Vec::new(),
            send: SendParameters::default(),
        }
    }

    fn admits(&self, client: &Client) -> bool {
        let certified = client.tls.as_ref().is_some_and(|tls| tls.client_certificate.is_some());
        client.identity.is_some()
            || certified
            || match client.address {
                ClientAddress::Ip(address) => self.clients.iter().any(|net| net.contains(&address.ip())),
                ClientAddress::Unix => true,
                ClientAddress::Unknown => false,
            }
    }

    fn permits(&self, mailbox: &Mailbox) -> bool {
        self.from.iter().any(|pattern| pattern.matches(mailbox))
    }

    fn grant(&self, rule: &'static str) -> Granted {
        Granted { send: self.send.clone(), reverse_path_permitted: true, ..Granted::by(self.rule(rule)) }
    }

    #[expect(clippy::expect_used, reason = "the names are literals of this file, and a test reads them all")]
    fn rule(&self, name: &'static str) -> RuleName {
        RuleName::parse(name).expect("rule name")
    }

    fn reject(&self, rule: &'static str, reply: Reply, detail: String) -> Result<PolicyDecision, PolicyError> {
        Ok(PolicyDecision::Reject(Reason { rule: self.rule(rule), reply, detail }))
    }
}

#[async_trait]
impl Policy for SenderPolicy {
    async fn reverse_path(&self, facts: &MailFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        if !self.admits(facts.client) {
            let reply =
                if facts.auth_could_help { replies::AUTHENTICATION_REQUIRED } else { replies::SENDER_NOT_PERMITTED };
            return self.reject("clients", reply, format!("{} is in no allowed network", facts.client.address));
        }
        match facts.reverse_path {
            ReversePath::Null if !self.null_reverse_path => {
                self.reject("null_reverse_path", replies::NULL_REVERSE_PATH_NOT_PERMITTED, String::new())
            }
            ReversePath::Mailbox(mailbox) if !self.permits(mailbox) => self.reject(
                "reverse_path",
                replies::REVERSE_PATH_NOT_PERMITTED,
                format!("{mailbox} fits no allowed pattern"),
            ),
            _ => Ok(PolicyDecision::Accept(self.grant("reverse_path"))),
        }
    }

    async fn forward_path(&self, _facts: &RcptFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        Ok(PolicyDecision::Accept(self.grant("forward_path")))
    }

    async fn message(&self, facts: &MessageFacts<'_>) -> Result<PolicyDecision, PolicyError> {
        if let Some(author) = facts.authors.iter().find(|author| !self.permits(&author.mailbox)) {
            let detail = format!("{} fits no allowed pattern", author.mailbox);
            return self.reject("author", replies::AUTHOR_NOT_PERMITTED, detail);
        }
        if let Some(sender) = facts.sender.filter(|sender| !self.permits(&sender.mailbox)) {
            let detail = format!("{} fits no allowed pattern", sender.mailbox);
            return self.reject("sender_field", replies::SENDER_FIELD_NOT_PERMITTED, detail);
        }
        match facts.requested.parameters(&self.requested_fields) {
            Ok(requested) => {
                let granted = self.grant("from");
                Ok(PolicyDecision::Accept(Granted { send: requested.or(&granted.send), ..granted }))
            }
            Err(error) => self.reject("requested_fields", replies::MALFORMED_HEADER, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Identity, MailParameters, SessionId};

    fn client(address: &str) -> Client {
        Client::new(SessionId::fresh(), ClientAddress::Ip(address.parse().unwrap()), "main".into())
    }

    async fn mail(policy: &SenderPolicy, client: &Client, path: &str, auth_could_help: bool) -> String {
        let reverse_path = match path {
            "" => ReversePath::Null,
            text => ReversePath::Mailbox(Mailbox::parse(text).unwrap()),
        };
        let facts =
            MailFacts { client, auth_could_help, reverse_path: &reverse_path, parameters: MailParameters::default() };
        match policy.reverse_path(&facts).await.unwrap() {
            PolicyDecision::Accept(granted) => format!("ok {}", granted.rule),
            PolicyDecision::Defer(reason) | PolicyDecision::Reject(reason) => {
                format!("{} {}", reason.reply.code(), reason.rule)
            }
        }
    }

    #[tokio::test]
    async fn mail_is_judged_by_client_then_by_reverse_path() {
        let policy = SenderPolicy::local(vec![AddressPattern::parse("*@a.example").unwrap()]);
        let (near, far) = (client("127.0.0.1:1"), client("192.0.2.1:1"));
        let mut known = far.clone();
        known.identity = Some(Identity::new("app"));
        for (client, path, auth, want) in [
            (&near, "x@a.example", false, "ok reverse_path"),
            (&near, "x@b.example", false, "550 reverse_path"),
            (&near, "", false, "550 null_reverse_path"),
            (&far, "x@a.example", false, "550 clients"),
            (&far, "x@a.example", true, "530 clients"),
            (&known, "x@a.example", false, "ok reverse_path"),
        ] {
            assert_eq!(mail(&policy, client, path, auth).await, want, "{client:?} {path}");
        }
    }
}
