//! The listeners of a plan: addresses, TLS, AUTH.

use super::certificates::{Pair, PairPaths};
use super::pairs::{self, Half, Issuers, PairText};
use super::plan::{Diagnostics, Purpose};
use super::secret_source::Source;
use super::sections::{Auth, CertificatePair, Certificates, Listener, Tls};
use super::values::Listen;
use crate::server::{Endpoint, ListenerSettings, TlsSettings};
use crate::smtp;
use std::net::SocketAddr;

/// All of them, as far as they can be made; what cannot is in the problems.
pub(super) fn plan(
    diagnostics: &mut Diagnostics<'_>,
    hostname: &str,
    users: bool,
    purpose: &mut Purpose<'_>,
) -> Vec<ListenerSettings> {
    let listeners = &diagnostics.config.listener;
    if listeners.is_empty() {
        let hint = "for example: [[listener]] with address = \"127.0.0.1:2525\"";
        diagnostics.error("listener", "no listener: nobody could reach the relay", hint);
    }
    twice(diagnostics);
    let made = generated(diagnostics, hostname, purpose);
    let mut planned = Vec::new();
    for (place, listener) in listeners.iter().enumerate() {
        let at = Spot { path: format!("listener.{place}"), listener };
        let Some(address) = &listener.address else {
            diagnostics.error(&at.path, "a listener needs an address", "for example: address = \"127.0.0.1:2525\"");
            continue;
        };
        at.check(diagnostics, &address.0, users);
        let tls = at.tls(diagnostics, made.as_ref().map(Option::as_ref).map_err(|error| *error), purpose);
        let Some(endpoint) = at.endpoint(diagnostics, &address.0, purpose) else { continue };
        let mut settings = ListenerSettings::new(&listener.called(), endpoint, at.smtp(diagnostics, hostname));
        settings.tls = tls;
        settings.proxies = listener.proxy_protocol_from.iter().map(|network| network.0).collect();
        settings.handshake_wait_max = listener.handshake_seconds_max.wait();
        planned.push(settings);
    }
    planned
}

fn twice(diagnostics: &mut Diagnostics<'_>) {
    let listeners = &diagnostics.config.listener;
    for (place, listener) in listeners.iter().enumerate() {
        let before = &listeners[..place];
        let name = listener.called();
        // A free port may be asked for any number of times.
        let free =
            matches!(&listener.address, Some(address) if matches!(address.0, Listen::Tcp(tcp) if tcp.port() == 0));
        let same_address =
            !free && listener.address.is_some() && before.iter().any(|it| it.address == listener.address);
        if same_address {
            let path = format!("listener.{place}.address");
            diagnostics.error(&path, "another listener has this address already", "give each an address of its own");
        }
        if listener.name.is_some() && !is_printable(&name) {
            let path = format!("listener.{place}.name");
            let message = format!("{name:?} has a character that does not print; log lines show the name");
            diagnostics.error(&path, message, "use letters, digits and signs");
        } else if !(same_address && listener.name.is_none()) && before.iter().any(|other| other.called() == name) {
            let path = format!("listener.{place}.name");
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

/// A listener and where it stands.
struct Spot<'a> {
    path: String,
    listener: &'a Listener,
}

impl Spot<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    fn smtp(&self, diagnostics: &Diagnostics<'_>, hostname: &str) -> smtp::Settings {
        smtp::Settings {
            tls: self.listener.tls.into(),
            require_tls: self.listener.require_tls,
            auth: self.listener.auth.into(),
            auth_in_clear: self.listener.auth_in_clear,
            line_endings: self.listener.line_endings.into(),
            long_lines: self.listener.long_lines.into(),
            stray_dots: self.listener.stray_dots.into(),
            mbox_line: self.listener.mbox_line.into(),
            limits: diagnostics.config.smtp.limits(),
            ..smtp::Settings::new(hostname)
        }
    }

    /// Settings of this listener that contradict each other.
    fn check(&self, diagnostics: &mut Diagnostics<'_>, address: &Listen, users: bool) {
        let Listener { tls, auth, .. } = self.listener;
        let (tls, auth) = (*tls, *auth);
        if matches!(auth, Auth::Optional | Auth::Required) && !users {
            let hint = "write users in [auth.users] or auth.user_list; `gatepost hash-password` makes the hash";
            diagnostics.error(&self.key("auth"), "AUTH is offered and there are no users", hint);
        }
        if auth != Auth::Off && tls == Tls::None && !self.listener.auth_in_clear {
            let hint = "set tls, or auth_in_clear = true if passwords may be read on the way";
            diagnostics.error(&self.key("auth"), "AUTH would never be offered: there is no TLS here", hint);
        }
        if self.listener.auth_in_clear && auth == Auth::Off {
            diagnostics.error(&self.key("auth_in_clear"), "auth_in_clear without auth", "set auth, or take it away");
        }
        if self.listener.require_tls && tls != Tls::Starttls {
            let message = match tls {
                Tls::None => "TLS is required and never offered",
                _ => "require_tls means nothing where all is TLS",
            };
            diagnostics.error(&self.key("require_tls"), message, "it belongs to tls = \"starttls\"");
        }
        if self.listener.client_certificates != Certificates::Off && tls == Tls::None {
            diagnostics.error(&self.key("client_certificates"), "client certificates without TLS", "set tls");
        }
        if self.listener.client_certificates == Certificates::Required
            && tls == Tls::Starttls
            && !self.listener.require_tls
        {
            let hint = "set require_tls = true, or clients without TLS show none";
            diagnostics.error(&self.key("client_certificates"), "clients that skip STARTTLS need no certificate", hint);
        }
        for (place, network) in self.listener.proxy_protocol_from.iter().enumerate() {
            if network.0.prefix_len() == 0 {
                let message = "anybody could say to be any client: every address is taken for a proxy's";
                diagnostics.error(&self.key(&format!("proxy_protocol_from.{place}")), message, "name the proxies");
            }
        }
        if !self.listener.proxy_protocol_from.is_empty() && matches!(address, Listen::Unix(_)) {
            let message = "a Unix socket has no client address, so no proxy is recognised";
            diagnostics.error(&self.key("proxy_protocol_from"), message, "use a TCP address");
        }
        if auth == Auth::Any {
            let hint =
                "auth = \"any\" is for devices that insist on AUTH; who may send is said by networks or certificates";
            diagnostics.warn(&self.key("auth"), "every password is accepted here, and means nothing", hint);
        }
        if self.listener.auth_in_clear && auth != Auth::Any && !address.is_local() {
            let hint = "use TLS where clients can";
            diagnostics.warn(&self.key("auth_in_clear"), "passwords can be read on their way to this listener", hint);
        }
        if tls != Tls::None && diagnostics.config.tls.generate && !address.is_local() {
            let message = "others may reach a listener whose certificate is made for development";
            diagnostics.warn("tls.generate", message, "get a certificate that your clients can verify");
        }
    }

    fn tls(
        &self,
        diagnostics: &mut Diagnostics<'_>,
        made: Result<Option<&Pair>, NotMade>,
        purpose: &Purpose<'_>,
    ) -> Option<TlsSettings> {
        if self.listener.tls == Tls::None {
            return None;
        }
        let common = &diagnostics.config.tls;
        let (certificate, certificate_path) =
            self.own(self.listener.certificate.as_ref(), common.certificate.as_ref(), "certificate");
        let (key, key_path) = self.own(self.listener.key.as_ref(), common.key.as_ref(), "key");
        let (authorities, authorities_path) = self.own(
            self.listener.client_authorities.as_ref(),
            common.client_authorities.as_ref(),
            "client_authorities",
        );
        let is_common = self.listener.certificate.is_none() && self.listener.key.is_none();
        if is_common && made.is_err() {
            // One mistake is reported once.
            return None;
        }
        let (Some(certificate), Some(key)) = (certificate, key) else {
            let missing = if certificate.is_none() { "certificate" } else { "key" };
            let hint =
                "set certificate and key in [tls] or here: { file = \"…\" }; `gatepost gen-cert` makes a pair to try";
            diagnostics.error(&self.key("tls"), format!("TLS without a {missing}"), hint);
            return None;
        };
        // What was made now, or would be made at a start, stands in no file yet.
        let (chain, secret) = match made.ok().flatten().filter(|_| is_common) {
            Some(pair) => (Some(pair.certificate.clone()), Some(pair.key.clone())),
            None => (diagnostics.text(&certificate_path, certificate), diagnostics.secret(&key_path, key)),
        };
        let half = |path, source: &Source, text| Half { path, source: source.to_string(), text };
        let wanted = self.listener.client_certificates;
        let issuers = match (wanted != Certificates::Off, authorities) {
            (false, _) => Half { path: authorities_path, source: String::new(), text: String::new() },
            (true, Some(source)) => {
                let text = diagnostics.text(&authorities_path, source)?;
                half(authorities_path, source, text)
            }
            (true, None) => {
                let hint = "set client_authorities in [tls] or here: { file = \"…\" }";
                diagnostics.error(
                    &self.key("client_certificates"),
                    "nothing says who issues client certificates",
                    hint,
                );
                return None;
            }
        };
        let chain = half(certificate_path, certificate, chain?);
        let mut pairs = vec![PairText { chain, key: half(key_path, key, secret?) }];
        pairs.extend(self.further(diagnostics)?);
        let issuers = Issuers { wanted: wanted.into(), half: issuers };
        pairs::settings(diagnostics, &self.listener.called(), &pairs, &issuers, purpose)
    }

    /// The texts of the further pairs.
    fn further(&self, diagnostics: &mut Diagnostics<'_>) -> Option<Vec<PairText>> {
        let own = self.listener.certificate.is_some() || self.listener.key.is_some();
        let (list, path): (&[CertificatePair], String) = match self.listener.further_pairs.as_slice() {
            [] if !own => (&diagnostics.config.tls.further_pairs, "tls.further_pairs".to_owned()),
            list => (list, self.key("further_pairs")),
        };
        let mut pairs = Vec::with_capacity(list.len());
        for (place, pair) in list.iter().enumerate() {
            let path = |key: &str| format!("{path}.{place}.{key}");
            let chain = diagnostics.text(&path("certificate"), &pair.certificate);
            let secret = diagnostics.secret(&path("key"), &pair.key);
            let half = |key: &str, source: &Source, text| Half { path: path(key), source: source.to_string(), text };
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
        diagnostics: &mut Diagnostics<'_>,
        address: &Listen,
        purpose: &mut Purpose<'_>,
    ) -> Option<Endpoint> {
        match (address, purpose) {
            (Listen::Tcp(address), _) => Some(Endpoint::Tcp(*address)),
            (Listen::Unix(path), _) => Some(Endpoint::Unix { path: path.clone(), mode: self.listener.socket_mode.0 }),
            // Never opened: a check has no sockets.
            (Listen::Systemd(_), Purpose::Check | Purpose::Reload) => {
                Some(Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))))
            }
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

/// What `tls.generate` should make cannot be made; the problems say why.
#[derive(Clone, Copy, Debug)]
struct NotMade;

/// The pair of `tls.generate`, if its files are not there: written at a start, only made for a check.
fn generated(
    diagnostics: &mut Diagnostics<'_>,
    hostname: &str,
    purpose: &Purpose<'_>,
) -> Result<Option<Pair>, NotMade> {
    let tls = &diagnostics.config.tls;
    let wanted = diagnostics.config.listener.iter().any(|listener| listener.tls != Tls::None);
    if !tls.generate || !wanted {
        return Ok(None);
    }
    let (Some(Source::File(certificate)), Some(Source::File(key))) = (&tls.certificate, &tls.key) else {
        let hint =
            "for example: certificate = { file = \"./var/certs/cert.pem\" }, key = { file = \"./var/certs/key.pem\" }";
        diagnostics.error("tls.generate", "generate needs tls.certificate and tls.key as files", hint);
        return Err(NotMade);
    };
    match (certificate.exists(), key.exists()) {
        (true, true) => return Ok(None),
        (false, false) if matches!(purpose, Purpose::Reload) => {
            let message = format!("{} is gone: it was made at the start", certificate.display());
            diagnostics.error("tls.generate", message, "clients trust the one in use; the next start makes another");
            return Err(NotMade);
        }
        (false, false) => {}
        (there, _) => {
            let (one, other) = if there { (certificate, key) } else { (key, certificate) };
            let message = format!("{} is there and {} is not", one.display(), other.display());
            diagnostics.error("tls.generate", message, "nothing is overwritten: remove it, and a new pair is made");
            return Err(NotMade);
        }
    }
    let paths = PairPaths {
        authority: certificate.with_file_name("ca.pem"),
        certificate: certificate.clone(),
        key: key.clone(),
    };
    let made = Pair::make(&names(diagnostics, hostname)).and_then(|pair| {
        if matches!(purpose, Purpose::Start { .. }) {
            // An authority without its pair is of no use to anybody.
            let _ = std::fs::remove_file(&paths.authority);
            pair.write(&paths, false)?;
        }
        Ok(pair)
    });
    let hint = "let the relay's user write there, or name certificates that are there and set generate = false";
    made.map(Some).map_err(|error| {
        diagnostics.error("tls.generate", error.to_string(), hint);
        NotMade
    })
}

/// By which names clients reach us.
fn names(diagnostics: &Diagnostics<'_>, hostname: &str) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if !hostname.starts_with('[') {
        names.push(hostname.to_owned());
    }
    for listener in &diagnostics.config.listener {
        match listener.address.as_ref().map(|address| &address.0) {
            Some(Listen::Tcp(address)) if !address.ip().is_unspecified() => names.push(address.ip().to_string()),
            _ => {}
        }
    }
    names.sort();
    names.dedup();
    names
}
