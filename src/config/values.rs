//! Values that are written as strings: one type for each form. An error names the accepted forms.
//!
//! Every type deserializes from a TOML string, so that the reader knows the place of a wrong one.

use super::error_hints::one_of;
use super::number::object;
use crate::limit::Window;
use crate::mail::MailDomain;
use crate::mail::parameters::{
    AppName, ConfigurationSetName, EndpointId, Feedback, IdentityArn, ListName, RequestedField, RoleArn, TagName,
    TenantName,
};
use crate::mail::{Author, ForwardPath, Mailbox, RuleName, address::AddressError, author};
use crate::policy::{AddressPattern, CertificateMatch, TagPattern};
use ipnet::IpNet;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Parses a string.
struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err = String>> de::Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Types that are written as strings. `$forms` are the accepted forms, in errors and in the schema.
macro_rules! text_values {
    ($( $(#[$doc:meta])+ $name:ident($inner:ty) = $read:expr, $show:expr, forms $forms:literal; )+) => { $(
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) $inner);

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let read: fn(&str) -> Result<$inner, String> = $read;
                read(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let show: fn(&$inner) -> String = $show;
                f.write_str(&show(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(TextVisitor(PhantomData))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                object([("type", "string".into()), ("description", $forms.into())])
            }
        }
    )+ };
}

text_values! {
    /// A network.
    Network(IpNet) = read_network, ToString::to_string,
        forms "a network such as 10.1.0.0/16 or fd00::/8, or one address such as 10.1.0.7";
    /// A pattern of addresses.
    FromPattern(AddressPattern) = |text| AddressPattern::parse(text).map_err(|error| error.to_string()),
        ToString::to_string,
        forms "ann@example.com, *@example.com, *@*.example.com (its subdomains), billing+*@example.com, or *@* (every address)";
    /// Where a listener listens.
    ListenAddress(Listen) = read_listen, ToString::to_string,
        forms "IP:PORT such as 127.0.0.1:2525 or [::1]:2525, unix:/run/gatepost/smtp.sock, systemd:0 or systemd:NAME";
    /// Permission bits.
    Mode(u32) = read_mode, |mode| format!("{mode:04o}"),
        forms "permission bits in octal, such as 0660";
    /// The name of the relay.
    Hostname(String) = read_hostname, Clone::clone,
        forms "a domain name such as relay.example.com, or an address literal such as [192.0.2.1]";
    /// A URL.
    HttpUrl(String) = read_url, Clone::clone,
        forms "https://HOST[:PORT], or http:// for an emulator on this machine";
    /// Where SES sends bounces and complaints.
    FeedbackTo(Feedback) = read_feedback, show_feedback,
        forms "reverse-path (the client's MAIL FROM), account (as the SES account is set up), or one address";
    /// An `X-SES-*` field.
    RequestedName(RequestedField) = read_requested, show_requested,
        forms "configuration-set, message-tags, identity-arn, tenant or list-management";
    /// A configuration set.
    ConfigurationSet(ConfigurationSetName) = |text| ConfigurationSetName::parse(text).map_err(|error| format!("{text:?} is not a valid {error}")),
        ToString::to_string, forms "1 to 64 of A-Z a-z 0-9 _ -";
    /// An identity.
    Arn(IdentityArn) = |text| IdentityArn::parse(text).map_err(|error| format!("{text:?} is not a valid {error}")),
        ToString::to_string, forms "arn:aws:ses:REGION:ACCOUNT:identity/NAME";
    /// A tenant.
    Tenant(TenantName) = |text| TenantName::parse(text).map_err(|error| format!("{text:?} is not a valid {error}")),
        ToString::to_string, forms "1 to 64 of A-Z a-z 0-9 _ -";
    /// A multi-region endpoint.
    EndpointIdText(EndpointId) = |text| EndpointId::parse(text).map_err(|error| format!("{text:?} is not a valid {error}")),
        ToString::to_string, forms "1 to 128 of A-Z a-z 0-9 _ - .";
    /// A role.
    Role(RoleArn) = |text| RoleArn::parse(text).map_err(|error| format!("{text:?} is not a valid {error}")),
        ToString::to_string, forms "arn:aws:iam::ACCOUNT:role/NAME";
    /// A tag's value.
    TagValue(TagPattern) = |text| TagPattern::parse(text).map_err(|error| error.to_string()),
        ToString::to_string, forms "1 to 256 of A-Z a-z 0-9 _ -, with {app} and {auth} to be filled in";
    /// The name of a message tag, or none.
    TagNameText(Option<TagName>) = read_tag_name, |name| name.as_ref().map(ToString::to_string).unwrap_or_default(),
        forms "1 to 256 of A-Z a-z 0-9 _ -, or \"\" for none";
    /// The name of an application.
    AppNameText(AppName) = |text| AppName::parse(text).map_err(|error| format!("{text:?} is not a valid {error}")),
        ToString::to_string, forms "1 to 64 of A-Z a-z 0-9 _ - .";
    /// The name of a limit.
    RuleNameText(RuleName) = |text| RuleName::parse(text).map_err(|error| error.to_string()),
        ToString::to_string, forms "1 to 128 printable characters without space";
    /// A rate.
    WindowText(Window) = |text| text.parse().map_err(|error: crate::limit::RuleError| error.to_string()),
        ToString::to_string, forms "100/s, 100/s burst 200, 2000/min, 600/h, 50000/day or 1000000/month";
    /// A rate without the calendar.
    EvenRate(crate::limit::Rate) = read_even_rate, |rate| Window::Rate(*rate).to_string(),
        forms "30/h burst 10, 5/min or 1/s";
    /// A time zone.
    ZoneText(TimeZone) = read_zone, |zone| zone.iana_name().unwrap_or("UTC").to_owned(),
        forms "a name of the IANA time zone database, such as Europe/Berlin or UTC";
    /// The part of a client certificate that is compared.
    CertificateText(CertificateMatch) = read_certificate, ToString::to_string,
        forms "fingerprint:SHA-256 in hex, subject:CN=billing, O=Example or name:billing.internal";
    /// One address.
    AddressText(Mailbox) = read_address, ToString::to_string, forms "one address such as staging@example.com";
    /// An address, maybe with a name.
    AuthorText(Author) = read_author, ToString::to_string,
        forms "an address, maybe with a name: Shop <shop@example.com>";
    /// An extension of file names.
    Extension(String) = read_extension, Clone::clone, forms "a file name extension without dot, such as exe";
    /// The name of a header field that may be taken out.
    FieldNameText(String) = read_field_name, Clone::clone, forms "the name of a header field that is not an address field";
    /// An AWS account.
    AccountId(String) = read_account, Clone::clone, forms "the twelve digits of an AWS account, in quotes";
    /// A list or topic.
    List(ListName) = |text| ListName::parse(text).map_err(|error| format!("{text:?} is not a valid {error}")),
        ToString::to_string, forms "1 to 64 of A-Z a-z 0-9 _ -";
}

impl Default for ZoneText {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

/// Where a listener listens, before a socket is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// A socket that systemd opened: its number from 0, or its `FileDescriptorName=`.
    Systemd(String),
}

impl Listen {
    /// Whether only programs of this machine can connect. The address of a systemd socket is not known before the start.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
            Self::Systemd(_) => false,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

const UNIX_PATH_BYTES_MAX: usize = 107;

fn read_listen(text: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        // struct sockaddr_un of Linux: 108 bytes with the NUL at the end.
        if path.len() > UNIX_PATH_BYTES_MAX {
            return Err(format!(
                "the path of the Unix socket has {} bytes; the system permits {UNIX_PATH_BYTES_MAX}",
                path.len()
            ));
        }
        return Ok(Listen::Unix(path.into()));
    }
    if let Some(name) = text.strip_prefix("systemd:").filter(|name| !name.is_empty()) {
        return Ok(Listen::Systemd(name.to_owned()));
    }
    // No names: a name may have several addresses, and other machines may reach only some of them.
    text.parse().map(Listen::Tcp).map_err(|_| no_listen_address(text))
}

/// What is wrong with a text that is not an address and port.
fn no_listen_address(text: &str) -> String {
    let (before, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let is_number = !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit());
    if matches!(before, "" | "*") && is_number {
        return format!("{text:?} names no address: write 127.0.0.1:{port} for this machine only, or 0.0.0.0:{port}");
    }
    let address = before.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address {
        Ok(_) if is_number && port.parse::<u16>().is_err() => {
            format!("{text:?} has a port that is not 0 to 65535")
        }
        Ok(address) if is_number => {
            let port = port.parse().unwrap_or_default();
            let written = std::net::SocketAddr::new(address, port);
            format!("{text:?} is not an address to listen on: write {written}")
        }
        _ if text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok() => {
            format!("{text:?} has no port")
        }
        _ => format!("{text:?} is not an address to listen on"),
    }
}

fn read_network(text: &str) -> Result<IpNet, String> {
    let one = text.parse::<IpAddr>().map(IpNet::from);
    let network: IpNet = one.or_else(|_| text.parse()).map_err(|_| super::network::not_one(text))?;
    if let IpNet::V6(mapped) = network
        && let Some(address) = mapped.addr().to_ipv4_mapped()
        && let Ok(plain) = IpNet::new(address.into(), mapped.prefix_len().saturating_sub(96))
    {
        // Clients have IPv4 addresses as such, whatever the listener's socket says: this would match none.
        let plain = plain.trunc();
        return Err(format!(
            "{text:?} is an IPv4 network in IPv6 form, and no client has such an address: write {plain}"
        ));
    }
    if network != network.trunc() {
        let (all, one) = (network.trunc(), network.addr());
        return Err(format!("{text:?} is ambiguous: write {all} for the network or {one} for the address"));
    }
    Ok(network)
}

fn read_mode(text: &str) -> Result<u32, String> {
    let octal = text.len() <= 5 && text.bytes().all(|octet| matches!(octet, b'0'..=b'7'));
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| octal && *mode <= 0o777)
        .ok_or_else(|| format!("{text:?} is not a set of permission bits"))
}

/// In the form of the greeting and the trace field: A-labels.
fn read_hostname(text: &str) -> Result<String, String> {
    match MailDomain::parse(text) {
        Ok(MailDomain::Name(name)) => Ok(name),
        Ok(MailDomain::Literal(_)) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is neither a domain name nor an address literal")),
    }
}

fn read_url(text: &str) -> Result<String, String> {
    // Such a URL is logged, so the text is not shown where it may hold a password.
    if text.contains('@') {
        return Err(
            "the URL has an @, which follows a user or a password: SES is called with AWS credentials only".to_owned()
        );
    }
    if text.contains(['?', '#']) {
        return Err("the URL has a query or a fragment, which an endpoint does not have".to_owned());
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = text.bytes().all(|octet| octet.is_ascii_graphic());
    match rest {
        Some(rest) if plain && !rest.is_empty() && !rest.starts_with(['/', ':', '?', '#']) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not an http or https URL")),
    }
}

fn read_feedback(text: &str) -> Result<Feedback, String> {
    match text {
        "reverse-path" => Ok(Feedback::ReversePath),
        "account" => Ok(Feedback::Account),
        address => Mailbox::parse(address).map(Feedback::Fixed).map_err(|error| match error {
            AddressError::NoDomain => format!("{text:?} is neither reverse-path, nor account, nor an address"),
            other => format!("{text:?}: {other}"),
        }),
    }
}

fn show_feedback(feedback: &Feedback) -> String {
    match feedback {
        Feedback::ReversePath => "reverse-path".to_owned(),
        Feedback::Account => "account".to_owned(),
        Feedback::Fixed(mailbox) => mailbox.to_string(),
    }
}

fn read_requested(text: &str) -> Result<RequestedField, String> {
    let row = RequestedField::ALL.iter().find(|(_, word, _)| *word == text);
    row.map(|(.., field)| *field).ok_or_else(|| {
        let hint = one_of(text, RequestedField::ALL.iter().map(|(_, word, _)| *word), "field");
        format!("{text:?} is not an X-SES field that can be granted: {hint}")
    })
}

fn show_requested(field: &RequestedField) -> String {
    let row = RequestedField::ALL.iter().find(|(.., known)| known == field);
    row.map(|(_, word, _)| (*word).to_owned()).unwrap_or_default()
}

fn read_even_rate(text: &str) -> Result<crate::limit::Rate, String> {
    match text.parse().map_err(|error: crate::limit::RuleError| error.to_string())? {
        Window::Rate(rate) => Ok(rate),
        Window::Quota(_) => Err(format!("{text:?}: write it per second, minute or hour, such as 30/h burst 10")),
    }
}

fn read_zone(text: &str) -> Result<TimeZone, String> {
    TimeZone::get(text).map_err(|_| format!("{text:?} is not a time zone; write a name such as Europe/Berlin or UTC"))
}

fn read_certificate(text: &str) -> Result<CertificateMatch, String> {
    let (kind, value) = text.split_once(':').unwrap_or((text, ""));
    let value = value.trim();
    match kind {
        "fingerprint" => {
            // In the form of common tools: colons between the bytes, in either case.
            let hex = value.replace(':', "").to_ascii_lowercase();
            let whole = hex.len() == 64 && hex.bytes().all(|octet| octet.is_ascii_hexdigit());
            whole
                .then_some(CertificateMatch::Fingerprint(hex))
                .ok_or_else(|| format!("{value:?} is not a SHA-256 in hex"))
        }
        "subject" if !value.is_empty() => Ok(CertificateMatch::Subject(value.to_owned())),
        // DNS names are compared in lower case; mailboxes and URIs as they are.
        "name" if !value.is_empty() && !value.contains(['@', ':', '/']) => {
            Ok(CertificateMatch::Name(value.to_ascii_lowercase()))
        }
        "name" if !value.is_empty() => Ok(CertificateMatch::Name(value.to_owned())),
        _ => Err(format!("{text:?} does not begin with fingerprint:, subject: or name:")),
    }
}

fn read_address(text: &str) -> Result<Mailbox, String> {
    let mailbox = Mailbox::parse(text).map_err(|error| format!("{text:?}: {error}"))?;
    if ForwardPath::new(mailbox.clone()).is_none() {
        return Err(format!("{text:?}: SES takes no address literals"));
    }
    Ok(mailbox)
}

/// Encoded, and in one line with the address, still far below the 998 octets of a line.
const NAME_OCTETS_MAX: usize = 200;

/// A display name may have any characters: it becomes an encoded word in the message.
fn read_author(text: &str) -> Result<Author, String> {
    if text.is_ascii() {
        let mut authors = author::parse(text.as_bytes()).map_err(|error| format!("{text:?}: {error}"))?;
        return match (authors.pop(), authors.is_empty()) {
            (Some(author), true) => Ok(author),
            _ => Err(format!("{text:?} is not one address")),
        };
    }
    let (name, address) = text.strip_suffix('>').and_then(|text| text.rsplit_once('<')).ok_or("not NAME <ADDRESS>")?;
    let (name, mailbox) = (name.trim().trim_matches('"'), read_address(address)?);
    if name.chars().any(char::is_control) || name.len() > NAME_OCTETS_MAX {
        return Err(format!("{name:?}: a name may have {NAME_OCTETS_MAX} octets, and no control characters"));
    }
    Ok(Author { display_name: Some(name.to_owned()), mailbox, domain_as_written: None })
}

/// Fields that policy judges or writes, or without which there is no message.
const FIELDS_THAT_STAY: [&str; 10] = [
    "From",
    "Sender",
    "Reply-To",
    "Resent-From",
    "Resent-Sender",
    "Date",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "X-Original-Recipients",
];

fn read_field_name(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':') {
        return Err(format!("{text:?} is not a header field name"));
    }
    if FIELDS_THAT_STAY.iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Err(format!("{text} cannot be removed"));
    }
    Ok(text.to_owned())
}

fn read_tag_name(text: &str) -> Result<Option<TagName>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    TagName::parse(text).map(Some).map_err(|error| format!("{text:?} is not a valid {error}"))
}

fn read_extension(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && !text.contains(['.', '*', ' ']);
    plain.then(|| text.to_lowercase()).ok_or_else(|| format!("{text:?} is not a file name extension"))
}

fn read_account(text: &str) -> Result<String, String> {
    let digits = text.len() == 12 && text.bytes().all(|octet| octet.is_ascii_digit());
    digits.then(|| text.to_owned()).ok_or_else(|| format!("{text:?} is not the number of an account"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_read_in_four_forms() {
        for (text, want) in [
            ("127.0.0.1:2525", Some("127.0.0.1:2525")),
            ("[::1]:25", Some("[::1]:25")),
            ("unix:/run/a.sock", Some("unix:/run/a.sock")),
            ("systemd:0", Some("systemd:0")),
            ("systemd:smtp", Some("systemd:smtp")),
            ("localhost:25", None),
            (":25", None),
            ("127.0.0.1", None),
            ("unix:", None),
            ("systemd:", None),
        ] {
            let read = text.parse::<ListenAddress>().ok().map(|address| address.to_string());
            assert_eq!(read.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn only_loopback_and_unix_are_local() {
        for (text, want) in [
            ("127.0.0.1:0", true),
            ("127.9.9.9:0", true),
            ("[::1]:0", true),
            ("[::ffff:127.0.0.1]:0", true),
            ("unix:/a", true),
            ("0.0.0.0:0", false),
            ("[::]:0", false),
            ("10.0.0.1:0", false),
            ("systemd:0", false),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().0.is_local(), want, "{text}");
        }
    }

    #[test]
    fn a_network_that_could_be_meant_in_two_ways_is_an_error() {
        for (text, want) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.0.0.7", Some("10.0.0.7/32")),
            ("::1", Some("::1/128")),
            ("10.0.0.1/8", None),
            ("10.0.0/8", None),
            ("10.0.0.0/33", None),
        ] {
            assert_eq!(text.parse::<Network>().ok().map(|network| network.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for text in ["reverse-path", "account", "bounces@example.com"] {
            assert_eq!(text.parse::<FeedbackTo>().unwrap().to_string(), text);
        }
        assert_eq!("0660".parse::<Mode>().unwrap().to_string(), "0660");
        assert!("660x".parse::<Mode>().is_err() && "1777".parse::<Mode>().is_err());
        for (_, word, _) in RequestedField::ALL {
            assert_eq!(word.parse::<RequestedName>().unwrap().to_string(), word);
        }
    }

    #[test]
    fn urls_and_hostnames_are_checked_when_read() {
        for text in ["https://", "ftp://a", "example.com", "https:///x", "https://a b", "https://user:hunter2@a"] {
            assert!(text.parse::<HttpUrl>().is_err(), "{text}");
        }
        for (text, want) in
            [("Relay.Example", Some("relay.example")), ("[192.0.2.1]", Some("[192.0.2.1]")), ("a_b", None)]
        {
            assert_eq!(text.parse::<Hostname>().ok().map(|name| name.0).as_deref(), want, "{text}");
        }
    }
}
