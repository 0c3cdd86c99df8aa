//! `[[listener]]`: addresses, TLS and AUTH.

use super::Config;
use super::certificate_pairs::{self, Half, Issuers, ListenerCertificate, ListenerTls, PairText};
use super::certificates::Pair;
use super::diagnostics::{Diagnostics, Item, Purpose};
use super::number::Seconds;
use super::secret_source::Source;
use super::section::{section, words};
use super::tls::{self, CertificatePair, NotMade, TlsFiles};
use super::values::{Listen, ListenAddress, Mode, Network};
use crate::server::{ClientCertificates, Endpoint, ListenerSettings};
use crate::smtp::{self, AuthMode, LineEndings, LongLines, MboxLine, StrayDots, TlsMode};
use serde_json::json;
use std::net::SocketAddr;

section! {
    /// A listener: one socket and what it offers.
    pub(crate) Listener {
        /// A name of your choice, for log lines. Default: the address.
        #[schemars(example = &"main")]
        name: Option<String> = None,
        /// IP:PORT such as 127.0.0.1:2525, unix:/PATH, systemd:NUMBER (from 0) or systemd:NAME (FileDescriptorName= of
        /// a .socket unit). Clients that reach a listener may send mail in your name, so a listener that other machines
        /// can reach needs a setting that limits them: policy.clients, an `[[app]]` recognised by networks, AUTH name
        /// or certificate, auth = "required" with users, or client_certificates = "required".
        #[schemars(example = &"127.0.0.1:2525")]
        address: Option<ListenAddress> = None,
        /// Permission bits of a Unix socket's file in octal, such as "0660". Every process that may open it may send.
        socket_mode: Mode = Mode(0o660),
        /// none, starttls or implicit. Many clients use STARTTLS whenever it is offered and then verify the
        /// certificate, so such clients fail with starttls and a certificate that they cannot verify; use none then.
        tls: Tls = Tls::None,
        /// true or false: before TLS, reject everything but STARTTLS. For tls = "starttls".
        require_tls: bool = false,
        /// The certificate chain in PEM, end-entity first: { file = "…" }. Default: tls.certificate.
        #[schemars(example = json!({ "file": "/etc/gatepost/cert.pem" }))]
        certificate: Option<Source> = None,
        /// The private key in PEM: { file = "…" } or { credential = "…" }. Default: tls.key.
        #[schemars(example = json!({ "credential": "tls-key" }))]
        key: Option<Source> = None,
        /// Further certificates with their keys, such as an RSA one beside an ECDSA one, or for other names:
        /// [{ certificate = { file = "…" }, key = { file = "…" } }]. Default: tls.further_pairs, where certificate and key are
        /// those of tls too.
        further_pairs: Vec<CertificatePair> = Vec::new(),
        /// off, optional or required. A client with a certificate from client_authorities may send from any network.
        client_certificates: Certificates = Certificates::Off,
        /// The issuers of client certificates in PEM: { file = "…" }. Default: tls.client_authorities.
        #[schemars(example = json!({ "file": "/etc/gatepost/clients-ca.pem" }))]
        client_authorities: Option<Source> = None,
        /// off, optional, required or any. any accepts every name and password, empty ones too, and CRAM-MD5, for
        /// applications that require AUTH; it never identifies a client and never permits it to send.
        auth: Auth = Auth::Off,
        /// true or false: offer AUTH without TLS too, where passwords can be read on the network.
        auth_in_clear: bool = false,
        /// A list of networks of proxies: their connections must begin with a PROXY header (version 1 or 2). A header
        /// from other clients is not accepted, because policy uses the address in it.
        proxy_protocol_from: Vec<Network> = Vec::new(),
        /// refuse or normalize: what to do with line ends inside a message that are not CR LF. normalize repairs them, for
        /// devices that send bare LF: a run of CR and LF becomes as many line ends as it has LFs, and one if it has none. A
        /// header section that ends with CR LF next to a bare LF is rejected: readers differ on where it ends. Only
        /// CR LF . CR LF ends a message in either case, so no second message can be smuggled.
        line_endings: Lines = Lines::Refuse,
        /// refuse or re-encode: what to do with lines over smtp.content_line_octets_max, which SES rejects. Web applications
        /// send HTML in one line. re-encode makes such text bodies quoted-printable or base64, wraps base64 and folds header
        /// fields at blanks, before policy judges; it rejects such lines anywhere else.
        long_lines: Long = Long::Refuse,
        /// refuse or quote: what to do with recipients such as foo..bar@docomo.ne.jp. quote sends to
        /// "foo..bar"@docomo.ne.jp.
        stray_dots: Dots = Dots::Refuse,
        /// refuse or drop: a line "From ann Thu Jan  1 00:00:00 2026" in front of the header, as messages in mbox files have
        /// it.
        mbox_line: Mbox = Mbox::Refuse,
        /// Seconds, for the PROXY header and for the TLS handshake, each.
        handshake_seconds_max: Seconds = Seconds::of(20),
    } []
}

words! {
    /// Whether and how a listener offers TLS.
    Tls => TlsMode {
        /// No TLS.
        None => None,
        /// After the STARTTLS command.
        Starttls => StartTls,
        /// From the first byte.
        Implicit => Implicit,
    }
    /// Whether a listener offers or requires AUTH.
    Auth => AuthMode {
        /// Not offered.
        Off => Off,
        /// Offered.
        Optional => Optional,
        /// Required before MAIL.
        Required => Required,
        /// Every name and password is accepted, and never identifies a client.
        Any => Any,
    }
    /// What to do with a lone CR or LF inside a message.
    Lines => LineEndings {
        /// Reject the message.
        Refuse => Refuse,
        /// Replace it by CR LF before policy judges.
        Normalize => Normalize,
    }
    /// What to do with lines that are too long.
    Long => LongLines {
        /// Reject the message.
        Refuse => Refuse,
        /// Re-encode them before policy judges.
        ReEncode => ReEncode,
    }
    /// What to do with a recipient whose dots are misplaced.
    Dots => StrayDots {
        /// Reject it.
        Refuse => Refuse,
        /// Quote its local part.
        Quote => Quote,
    }
    /// What to do with an mbox line in front of a message.
    Mbox => MboxLine {
        /// Reject the message.
        Refuse => Refuse,
        /// Remove the line.
        Drop => Drop,
    }
    /// Whether a listener requests client certificates.
    Certificates => ClientCertificates {
        /// Not requested.
        Off => Off,
        /// Requested.
        Optional => Optional,
        /// A handshake without a valid one fails.
        Required => Required,
    }
}

impl Listener {
    /// Its name, or its address.
    pub(crate) fn called(&self) -> String {
        let address = || self.address.as_ref().map(ToString::to_string).unwrap_or_default();
        self.name.clone().unwrap_or_else(address)
    }

    /// Whether clients can authenticate with a user of `[auth]`.
    pub(super) fn verifies_users(&self) -> bool {
        matches!(self.auth, Auth::Optional | Auth::Required)
    }
}

/// The settings and certificates of every listener, as far as they have no errors.
pub(super) fn plan(
    config: &Config,
    hostname: &str,
    has_users: bool,
    diagnostics: &mut Diagnostics<'_>,
    purpose: &mut Purpose<'_>,
) -> (Vec<ListenerSettings>, Vec<ListenerCertificate>) {
    let listeners = &config.listener;
    if listeners.is_empty() {
        let hint = "for example: [[listener]] with address = \"127.0.0.1:2525\"";
        diagnostics.error("listener", "no listener: no client could reach the relay", hint);
    }
    check_duplicates(listeners, diagnostics);
    let generated = generated(listeners, &config.tls, &names(listeners, hostname), diagnostics, purpose);
    let (mut planned, mut certificates) = (Vec::new(), Vec::new());
    for item in Item::all("listener", listeners) {
        let listener = item.value;
        let Some(address) = &listener.address else {
            diagnostics.error(&item.path, "a listener needs an address", "for example: address = \"127.0.0.1:2525\"");
            continue;
        };
        item.check(&address.0, config.tls.generate, has_users, diagnostics);
        let tls = item.tls(&config.tls, &generated, diagnostics, purpose);
        let Some(endpoint) = item.endpoint(&address.0, diagnostics, purpose) else { continue };
        let mut settings =
            ListenerSettings::new(&listener.called(), endpoint, listener.smtp(hostname, config.smtp.limits()));
        if let Some(tls) = tls {
            settings.tls = Some(tls.settings);
            certificates.extend(tls.certificates);
        }
        settings.proxies = listener.proxy_protocol_from.iter().map(|network| network.0).collect();
        settings.handshake_wait_max = listener.handshake_seconds_max.wait();
        planned.push(settings);
    }
    (planned, certificates)
}

/// The pair of `tls.generate`, if a listener uses TLS.
fn generated(
    listeners: &[Listener],
    common: &TlsFiles,
    names: &[String],
    diagnostics: &mut Diagnostics<'_>,
    purpose: &Purpose<'_>,
) -> Result<Option<Pair>, NotMade> {
    match listeners.iter().any(|listener| listener.tls != Tls::None) {
        true => tls::generated(common, names, diagnostics, purpose),
        false => Ok(None),
    }
}

/// Two listeners with one address or one name, and names that a terminal would not print.
fn check_duplicates(listeners: &[Listener], diagnostics: &mut Diagnostics<'_>) {
    for (index, listener) in listeners.iter().enumerate() {
        let before = &listeners[..index];
        let name = listener.called();
        // Port 0 is any free port, and may be used any number of times.
        let free =
            matches!(&listener.address, Some(address) if matches!(address.0, Listen::Tcp(tcp) if tcp.port() == 0));
        let same_address =
            !free && listener.address.is_some() && before.iter().any(|it| it.address == listener.address);
        if same_address {
            let path = format!("listener.{index}.address");
            diagnostics.error(&path, "another listener has this address already", "give each an address of its own");
        }
        if listener.name.is_some() && !is_printable(&name) {
            let path = format!("listener.{index}.name");
            let message = format!("{name:?} has an unprintable character, and log lines contain the name");
            diagnostics.error(&path, message, "use letters, digits and signs");
        } else if !(same_address && listener.name.is_none()) && before.iter().any(|other| other.called() == name) {
            let path = format!("listener.{index}.name");
            diagnostics.error(
                &path,
                format!("another listener is called {name:?} already"),
                "give each a name of its own",
            );
        }
    }
}

/// Whether a name is one that a terminal shows and does not act on.
fn is_printable(name: &str) -> bool {
    let acts =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !name.trim().is_empty() && !name.chars().any(|c| c.is_control() || acts(c))
}

impl Listener {
    /// The settings of its sessions.
    fn smtp(&self, hostname: &str, limits: smtp::Limits) -> smtp::Settings {
        smtp::Settings {
            tls: self.tls.into(),
            require_tls: self.require_tls,
            auth: self.auth.into(),
            auth_in_clear: self.auth_in_clear,
            line_endings: self.line_endings.into(),
            long_lines: self.long_lines.into(),
            stray_dots: self.stray_dots.into(),
            mbox_line: self.mbox_line.into(),
            limits,
            ..smtp::Settings::new(hostname)
        }
    }
}

impl Item<'_, Listener> {
    /// Settings of this listener that contradict each other.
    fn check(&self, address: &Listen, is_generated: bool, has_users: bool, diagnostics: &mut Diagnostics<'_>) {
        let Listener { tls, auth, .. } = self.value;
        let (tls, auth) = (*tls, *auth);
        if self.value.verifies_users() && !has_users {
            let hint = "write users in [auth.users] or auth.user_list; `gatepost hash-password` makes the hash";
            diagnostics.error(&self.key("auth"), "AUTH is offered, but there are no users", hint);
        }
        if auth != Auth::Off && tls == Tls::None && !self.value.auth_in_clear {
            let hint = "set tls, or auth_in_clear = true if passwords may be read on the network";
            diagnostics.error(&self.key("auth"), "AUTH would never be offered: there is no TLS here", hint);
        }
        if self.value.auth_in_clear && auth == Auth::Off {
            diagnostics.error(&self.key("auth_in_clear"), "auth_in_clear without auth", "set auth, or remove it");
        }
        if self.value.require_tls && tls != Tls::Starttls {
            let message = match tls {
                Tls::None => "TLS is required, but not offered",
                _ => "require_tls has no effect where every connection is TLS",
            };
            diagnostics.error(&self.key("require_tls"), message, "it belongs to tls = \"starttls\"");
        }
        if self.value.client_certificates != Certificates::Off && tls == Tls::None {
            diagnostics.error(&self.key("client_certificates"), "client certificates without TLS", "set tls");
        }
        if self.value.client_certificates == Certificates::Required && tls == Tls::Starttls && !self.value.require_tls {
            let hint = "set require_tls = true: a client without TLS has no certificate";
            diagnostics.error(&self.key("client_certificates"), "clients that skip STARTTLS need no certificate", hint);
        }
        for (index, network) in self.value.proxy_protocol_from.iter().enumerate() {
            if network.0.prefix_len() == 0 {
                let message = "every client could claim any address: every address is treated as a proxy";
                diagnostics.error(&self.key(&format!("proxy_protocol_from.{index}")), message, "name the proxies");
            }
        }
        if matches!(address, Listen::Unix(_)) && self.value.socket_mode.0 & 0o002 != 0 {
            let message = "every user of this machine can open this socket, and may send then";
            diagnostics.warn(&self.key("socket_mode"), message, "set \"0660\" and a group for the programs that send");
        }
        if !self.value.proxy_protocol_from.is_empty() && matches!(address, Listen::Unix(_)) {
            let message = "a Unix socket has no client address, so no proxy is recognised";
            diagnostics.error(&self.key("proxy_protocol_from"), message, "use a TCP address");
        }
        if auth == Auth::Any {
            let hint =
                "auth = \"any\" is for devices that insist on AUTH; networks or certificates decide who may send";
            diagnostics.warn(&self.key("auth"), "every password is accepted here, and identifies no client", hint);
        }
        if self.value.auth_in_clear && auth != Auth::Any && !address.is_local() {
            let hint = "use TLS where clients can";
            diagnostics.warn(&self.key("auth_in_clear"), "passwords to this listener can be read on the network", hint);
        }
        if tls != Tls::None && is_generated && !address.is_local() {
            let message = "other machines can reach a listener with a temporary certificate, which is for development";
            diagnostics.warn("tls.generate", message, "get a certificate that your clients can verify");
        }
    }

    fn tls(
        &self,
        common: &TlsFiles,
        generated: &Result<Option<Pair>, NotMade>,
        diagnostics: &mut Diagnostics<'_>,
        purpose: &Purpose<'_>,
    ) -> Option<ListenerTls> {
        if self.value.tls == Tls::None {
            return None;
        }
        let (certificate, certificate_path) =
            self.own(self.value.certificate.as_ref(), common.certificate.as_ref(), "certificate");
        let (key, key_path) = self.own(self.value.key.as_ref(), common.key.as_ref(), "key");
        let (authorities, authorities_path) =
            self.own(self.value.client_authorities.as_ref(), common.client_authorities.as_ref(), "client_authorities");
        let is_common = self.value.certificate.is_none() && self.value.key.is_none();
        if is_common && generated.is_err() {
            // The diagnostics have the error already.
            return None;
        }
        let (Some(certificate), Some(key)) = (certificate, key) else {
            let missing = if certificate.is_none() { "certificate" } else { "key" };
            let hint =
                "set certificate and key in [tls] or here: { file = \"…\" }; `gatepost gen-cert` makes a pair to try";
            diagnostics.error(&self.key("tls"), format!("TLS without a {missing}"), hint);
            return None;
        };
        // A generated pair may not be in its files yet.
        let (chain, secret) = match generated.as_ref().ok().and_then(Option::as_ref).filter(|_| is_common) {
            Some(pair) => (Some(pair.certificate.clone()), Some(pair.key.clone())),
            None => (diagnostics.text(&certificate_path, certificate), diagnostics.secret(&key_path, key)),
        };
        let half = |path, source: &Source, text| Half::new(path, source, text);
        let wanted = self.value.client_certificates;
        let issuers = match (wanted != Certificates::Off, authorities) {
            (false, _) => half(authorities_path, &Source::Inline(String::new()), String::new()),
            (true, Some(source)) => {
                let text = diagnostics.text(&authorities_path, source)?;
                half(authorities_path, source, text)
            }
            (true, None) => {
                let hint = "set client_authorities in [tls] or here: { file = \"…\" }";
                diagnostics.error(
                    &self.key("client_certificates"),
                    "the issuers of client certificates are not set",
                    hint,
                );
                return None;
            }
        };
        let chain = half(certificate_path, certificate, chain?);
        let mut pairs = vec![PairText { chain, key: half(key_path, key, secret?) }];
        pairs.extend(self.further(common, diagnostics)?);
        let issuers = Issuers { wanted: wanted.into(), half: issuers };
        certificate_pairs::tls(&self.value.called(), &pairs, &issuers, diagnostics, purpose)
    }

    /// The texts of the further pairs.
    fn further(&self, common: &TlsFiles, diagnostics: &mut Diagnostics<'_>) -> Option<Vec<PairText>> {
        let own = self.value.certificate.is_some() || self.value.key.is_some();
        let (list, path): (&[CertificatePair], String) = match self.value.further_pairs.as_slice() {
            [] if !own => (&common.further_pairs, "tls.further_pairs".to_owned()),
            list => (list, self.key("further_pairs")),
        };
        let mut pairs = Vec::with_capacity(list.len());
        for (index, pair) in list.iter().enumerate() {
            let path = |key: &str| format!("{path}.{index}.{key}");
            let chain = diagnostics.text(&path("certificate"), &pair.certificate);
            let secret = diagnostics.secret(&path("key"), &pair.key);
            let half = |key: &str, source: &Source, text| Half::new(path(key), source, text);
            let chain = half("certificate", &pair.certificate, chain?);
            pairs.push(PairText { chain, key: half("key", &pair.key, secret?) });
        }
        Some(pairs)
    }

    /// The listener's own source, or the common one, with its path.
    fn own<'s>(&self, own: Option<&'s Source>, common: Option<&'s Source>, key: &str) -> (Option<&'s Source>, String) {
        match own {
            Some(source) => (Some(source), self.key(key)),
            None => (common, format!("tls.{key}")),
        }
    }

    fn endpoint(
        &self,
        address: &Listen,
        diagnostics: &mut Diagnostics<'_>,
        purpose: &mut Purpose<'_>,
    ) -> Option<Endpoint> {
        match (address, purpose) {
            (Listen::Tcp(address), _) => Some(Endpoint::Tcp(*address)),
            (Listen::Unix(path), _) => Some(Endpoint::Unix { path: path.clone(), mode: self.value.socket_mode.0 }),
            // Never opened: a check has no sockets.
            (Listen::Systemd(_), Purpose::Reload) => Some(Endpoint::Kept),
            (Listen::Systemd(_), Purpose::Check) => Some(Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))),
            (Listen::Systemd(name), Purpose::Start { sockets }) => match sockets(name) {
                Ok(endpoint) => Some(endpoint),
                Err(error) => {
                    diagnostics.error(
                        &self.key("address"),
                        error,
                        "start it by a systemd .socket unit of that name or order",
                    );
                    None
                }
            },
        }
    }
}

/// The names that clients connect by.
fn names(listeners: &[Listener], hostname: &str) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if !hostname.starts_with('[') {
        names.push(hostname.to_owned());
    }
    for listener in listeners {
        match listener.address.as_ref().map(|address| &address.0) {
            Some(Listen::Tcp(address)) if !address.ip().is_unspecified() => names.push(address.ip().to_string()),
            _ => {}
        }
    }
    names.sort();
    names.dedup();
    names
}
