//! Mistakes in a configuration, one row each: what the message says is wrong, where, and what to do.
//!
//! Each is reported once and alone: what only follows from it is not. `DIR` in a row is a directory with the files of
//! [`files`]. What goes wrong at a start, after the configuration was found good, is in `tests/binary.rs`.

use super::certificates::Pair;
use super::{Config, ConfigError, Diagnostic, Location, ProcessEnvironment, Purpose};
use crate::mail::{Clock, SystemClock};
use std::path::Path;

/// Text, place, what is wrong, what to do.
type Row = (String, &'static str, &'static str, &'static str);

/// A configuration that is good, in lines of its own: rows lay their lines below it.
const GOOD: &str = "hostname = 'relay.example'\n[ses]\nregion = 'eu-west-1'\n[policy]\nfrom = ['*@example.com']\n";
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK";

/// A listener, and more of it from line 8 on.
fn listener(lines: &str) -> String {
    format!("{GOOD}[[listener]]\naddress = '127.0.0.1:2525'\n{lines}\n")
}

/// A listener that asks for AUTH, a user, and lines from line 8 on.
fn with(lines: &str) -> String {
    format!(
        "hostname = 'relay.example'\nauth.users.ann = '{HASH}'\n[[listener]]\naddress = '127.0.0.1:2525'\n\
         name = 'main'\nauth = 'optional'\nauth_in_clear = true\n{lines}\n"
    )
}

/// The same with one good application, and lines inside it from line 12 on.
fn app(lines: &str) -> String {
    with(&format!("[[app]]\nname = 'billing'\nnetworks = ['127.1.0.0/16']\nfrom = ['*@example.com']\n{lines}"))
}

/// The good one with `[ses]` lines from line 3 on.
fn ses(lines: &str) -> String {
    listener("").replace("region = 'eu-west-1'", lines)
}

/// What the TOML reader, or the type of a value, refuses.
fn unreadable() -> Vec<Row> {
    [
        ("hostnme = 'a'", "f:1:1", "unknown key hostnme", "did you mean hostname?"),
        ("[[listener]]\n\nadress = 'x'", "f:3:1", "unknown key adress in listener.0", "did you mean address?"),
        ("[lisener]", "f:1:2", "unknown key lisener", "did you mean listener?"),
        ("[ses]\nretries = 3", "f:2:1", "unknown key retries in ses", "known keys: emulator, region"),
        ("[log]\nlevel = 3", "f:2:9", "expected a string", "level: error, warn, info, debug or trace"),
        ("[log]\nformat = 'jsn'", "f:2:10", "\"jsn\" is not one of human, json", "did you mean \"json\"?"),
        ("[log]\nformat = 'text'", "f:2:10", "\"text\" is not one of human, json", "format: human or json"),
        ("[smtp]\nrecipients_max = '5'", "f:2:18", "invalid type: string \"5\", expected a whole number", "1 to 1000"),
        ("[smtp]\nrecipients_max = 2000", "f:2:18", "2000 is out of range: 1 to 1000", "recipients_max: Recipients"),
        ("[smtp]\nerrors_max = -1", "f:2:14", "-1 is out of range: 1 to 4294967295", "errors_max: "),
        ("[deadline]\nbase_seconds = 0", "f:2:16", "0 is out of range: 1 to 604800", "base_seconds: "),
        ("[policy]\nclients = ['10.0.0/8']", "f:2:12", "\"10.0.0/8\" is not a network", "clients: A list of networks"),
        (
            "[policy]\nclients = ['10.0.0.1/8']",
            "f:2:12",
            "write 10.0.0.0/8 for the network or 10.0.0.1 for",
            "clients: ",
        ),
        ("[policy]\nclients = '10.0.0.0/8'", "f:2:11", "expected a list", "clients: A list of networks"),
        ("[policy]\nfrom = ['example.com']", "f:2:9", "has no @; write *@example.com", "from: A list of patterns"),
        ("[policy]\nfrom = ['a@b.c', 'a b@c.d']", "f:2:18", "the local part must be", "from: A list of patterns"),
        ("[policy]\nrequested_fields = ['tenat']", "f:2:21", "not an X-SES field", "configuration-set, message-tags"),
        ("[[listener]]\naddress = ':25'", "f:2:11", "write 127.0.0.1:25 for this machine only", "address: IP:PORT"),
        ("[[listener]]\naddress = 'localhost:25'", "f:2:11", "not an address to listen on", "address: IP:PORT"),
        ("[[listener]]\nsocket_mode = '0888'", "f:2:15", "not a set of permission bits", "octal"),
        ("[[listener]]\ntls = true", "f:2:7", "expected", "tls: none, starttls or implicit"),
        ("[ses]\nendpoint_url = 'vpce.example'", "f:2:16", "not an http or https URL", "endpoint_url: An https:// URL"),
        ("[ses]\nendpoint_url = 'https://u:p@a'", "f:2:16", "the URL has an @", "endpoint_url: An https:// URL"),
        ("[ses]\nendpoint_url = 'https://a/?t=s'", "f:2:16", "a query or a fragment", "endpoint_url: An https:// URL"),
        ("[ses]\nfeedback = 'nobody'", "f:2:12", "neither reverse-path, nor account", "feedback: reverse-path"),
        ("[ses]\nidentity_arn = 'arn:aws:s3:::x'", "f:2:16", "identity ARN", "identity_arn: The ARN"),
        ("[ses.list_management]\ntopic = 'x'", "f:1:1", "missing key `contact_list`", "A contact list"),
        ("[tls]\nkey = { file = 'a', env = 'B' }", "f:2:7", "has two sources", "key: The private key"),
        ("[tls]\nkey = { vault = 'a' }", "f:2:9", "unknown key vault in tls.key", "known keys: file, env, credential"),
        ("[auth.users]\nann = 3", "f:2:7", "expected a string, or one of", "users: Names with a password hash"),
        ("hostname = 'a_b'", "f:1:12", "neither a domain name nor an address literal", "hostname: A domain name"),
        ("[[limit]]\nrates = ['100/week']", "f:2:10", "is not a rate", "2000/min"),
        (
            "hostname = ",
            "f:1:12",
            "string values must be quoted, expected l",
            "this is not TOML: a line is KEY = VALUE,",
        ),
        ("hostname = 'a.b'\nhostname = 'c.d'", "f:2:1", "duplicate key", "keep one of the two; a second table of a"),
        ("hostname = \u{201c}a.b\u{201d}", "f:1:12", "must be quoted", "replace typographic quotes by plain ones"),
        ("hostname\u{a0}= 'a.b'", "f:1:9", "invalid unquoted key", "replace the no-break space"),
        ("; a comment\nhostname = 'a.b'", "f:1:3", "key with no value", "a comment begins with #"),
        ("// a comment", "f:1:4", "key with no value", "a comment begins with #"),
        ("[tls]\ngenerate = yes", "f:2:12", "must be quoted", "write true or false"),
        ("[tls]\ngenerate = True", "f:2:12", "invalid boolean", "in small letters and without quotes"),
        (
            "[smtp]\nmessage_octets_max = 25MB",
            "f:2:22",
            "must be quoted",
            "a number has no unit: write octets or seconds",
        ),
        (
            "[smtp]\nrecipients_max = 99999999999999999999999",
            "f:2:18",
            "integer `99999999999999999999999`, expected a whole number",
            "recipients_max: ",
        ),
        ("[[listener]]\naddress = '::1:25'", "f:2:11", "not an address to listen on: write [::1]:25", "address: "),
        ("[[listener]]\naddress = '[127.0.0.1]:25'", "f:2:11", "write 127.0.0.1:25", "address: IP:PORT"),
        ("[[listener]]\naddress = '127.0.0.1:70000'", "f:2:11", "has a port that is not 0 to 65535", "address: "),
        ("[[listener]]\naddress = '[::1]'", "f:2:11", "has no port", "address: IP:PORT such as 127.0.0.1:2525"),
        ("[[listener]]\naddress = 25", "f:2:11", "integer `25`, expected a string", "address: IP:PORT such as"),
        ("[listener]\naddress = '127.0.0.1:25'", "f:1:1", "expected a list", "any number of `[[listener]]` tables"),
        (
            "[ses]\nconfiguration_set = 'a b'",
            "f:2:21",
            "\"a b\" is not a valid configuration set: 1 to 64",
            "configuration_set: ",
        ),
        ("[aws]\naccount = 111122223333", "f:2:11", "expected a string", "The twelve digits of the account"),
        ("a é = 1", "f:1:3", "key with no value, expected `=`", "a line is KEY = VALUE; a key with other"),
    ]
    .map(|(text, place, message, hint)| (text.to_owned(), place, message, hint))
    .into()
}

/// Settings that contradict each other.
fn contradictions() -> Vec<Row> {
    let hash = &format!("[auth.users]\nann = '{HASH}'");
    vec![
        (GOOD.to_owned(), "f", "no listener", "[[listener]]"),
        (format!("{GOOD}[[listener]]"), "f:6:1", "a listener needs an address", "address = \"127.0.0.1:2525\""),
        ("[[listener]]\naddress = '127.0.0.1:1'\n[policy]".to_owned(), "f:3:2", "policy.from is empty", "for example"),
        // An open relay.
        (
            format!("{GOOD}[[listener]]\naddress = '0.0.0.0:25'"),
            "f:7:11",
            "the configuration does not limit who may send",
            "set policy.clients",
        ),
        (
            format!("{GOOD}[[listener]]\naddress = '[::]:25'"),
            "f:7:11",
            "other machines can reach [::]:25",
            "set policy.clients",
        ),
        (
            format!("{GOOD}[[listener]]\naddress = 'systemd:0'"),
            "f:7:11",
            "the configuration does not limit who may send",
            "set policy.clients to your networks, or",
        ),
        (
            format!("{GOOD}[[listener]]\naddress = '0.0.0.0:25'\nauth = 'any'\nauth_in_clear = true"),
            "f:7:11",
            "the configuration does not limit who may send",
            "set policy.clients to your networks, or",
        ),
        (
            format!("{GOOD}[[listener]]\naddress = '0.0.0.0:25'\nauth = 'optional'\nauth_in_clear = true\n{hash}"),
            "f:7:11",
            "the configuration does not limit who may send",
            "set policy.clients to your networks, or",
        ),
        // Half of AUTH.
        (listener("auth = 'required'\nauth_in_clear = true"), "f:8:8", "there are no users", "gatepost hash-password"),
        (listener(&format!("auth = 'required'\n{hash}")), "f:8:8", "AUTH would never be offered", "auth_in_clear"),
        (listener(hash), "f:8:7", "no listener where they can authenticate", "set auth = \"required\""),
        (
            listener(&format!("auth = 'any'\nauth_in_clear = true\n{hash}")),
            "f:10:7",
            "no listener where they can",
            "set auth = \"required\" or \"optional\" on a",
        ),
        (listener("auth_in_clear = true"), "f:8:17", "auth_in_clear without auth", "set auth, or remove it"),
        (
            listener("auth = 'optional'\nauth_in_clear = true\n[auth.users]\nann = 'secret'"),
            "f:11:7",
            "not an argon2id or bcrypt hash",
            "gatepost hash-password",
        ),
        (
            listener(
                "auth = 'optional'\nauth_in_clear = true\n[auth]\nuser_list = \"ann:$2b$04$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK\\nbob\\n\"",
            ),
            "f:11:13",
            "line 2 of [redacted] is not NAME:HASH",
            "run `gatepost hash-password`",
        ),
        (
            listener("auth = 'optional'\nauth_in_clear = true\n[auth.users]\nann = { env = 'NO' }"),
            "f:11:1",
            "variable NO is not set",
            "set NO in the environment of the relay,",
        ),
        // Limits.
        (listener("[[limit]]"), "f:8:1", "a limit without rates limits nothing", "100/s burst 200"),
        (listener("[[limit]]\nrates = ['9/s']\napps = ['x']"), "f:10:9", "no application is called x", "[[app]]"),
        (
            listener("[[limit]]\nrates = ['9/s']\nby = 'recipient_domain'"),
            "f:8:1",
            "counts recipients",
            "of = \"recipients\"",
        ),
        (
            listener("[[limit]]\nrates = ['9/s']\nover = 'delay'\ndelay_seconds_max = 90"),
            "f:11:21",
            "longer than clients wait",
            "60",
        ),
        (
            listener("[[limit]]\nname = 'a'\nrates = ['9/s']\n[[limit]]\nname = 'a'\nrates = ['9/min']"),
            "f:12:8",
            "another limit is called a already",
            "give each a name of its own",
        ),
        // Identities.
        (
            listener(
                "[[app]]\nname = 'x'\nnetworks = ['127.1.0.0/16']\nfrom = ['*@b.example']\n\
                 identity_arn = 'arn:aws:ses:eu-west-1:111122223333:identity/a.example'",
            ),
            "f:12:16",
            "*@b.example is not covered by the identity",
            "name the identity of that domain",
        ),
        // TLS.
        (listener("tls = 'starttls'"), "f:8:7", "TLS without a certificate", "gatepost gen-cert"),
        (
            listener("tls = 'starttls'\ncertificate = 'x'"),
            "f:8:7",
            "TLS without a key",
            "set certificate and key in [tls] or here: {",
        ),
        (
            listener("tls = 'implicit'\n[tls]\ncertificate = 'x'\nkey = 'y'"),
            "f:10:15",
            "no certificate in it",
            "must be PEM",
        ),
        (
            listener("tls = 'implicit'\n[tls]\ncertificate = { file = '/no/such' }\nkey = 'y'"),
            "f:10:1",
            "cannot read /no/such",
            "correct the path, or put the file there",
        ),
        (
            listener("tls = 'implicit'\n[tls]\ncertificate = '/etc/cert.pem'\nkey = '/etc/key.pem'"),
            "f:10:15",
            "this is the path of a file, where the content is expected",
            "write { file = \"PATH\" }",
        ),
        (
            listener("require_tls = true"),
            "f:8:15",
            "TLS is required, but not offered",
            "it belongs to tls = \"starttls\"",
        ),
        (listener("client_certificates = 'required'"), "f:8:23", "client certificates without TLS", "set tls"),
        (
            listener("tls = 'starttls'\n[tls]\ngenerate = true"),
            "f:10:12",
            "generate needs tls.certificate and tls.key",
            "for example: certificate = { file =",
        ),
        // Listeners among each other.
        (
            listener("name = 'a'\n[[listener]]\naddress = '127.0.0.1:26'\nname = 'a'"),
            "f:11:8",
            "another listener is called \"a\"",
            "give each a name of its own",
        ),
        (
            listener("[[listener]]\naddress = '127.0.0.1:2525'"),
            "f:9:11",
            "another listener has this address",
            "give each an address of its own",
        ),
        (
            listener("proxy_protocol_from = ['10.0.0.0/8', '::/0']"),
            "f:8:38",
            "every client could claim any address",
            "name the proxies",
        ),
        (
            listener("[admin]\naddress = '127.0.0.1:2525'"),
            "f:9:11",
            "a listener has this address already",
            "give each an address of its own",
        ),
        (
            listener("[admin]\noperator_tokens = { ann = '0123456789abcdef0123456789abcdef' }"),
            "f:9:1",
            "a token without an address",
            "set admin.address",
        ),
        (
            listener("[admin]\naddress = '127.0.0.1:9925'\noperator_tokens = { ann = 'short' }"),
            "f:10:27",
            "at least 32 printable characters",
            "openssl rand -hex 32",
        ),
        (
            listener(
                "[admin]\naddress = '127.0.0.1:9925'\noperator_tokens = { 'a b' = '0123456789abcdef0123456789abcdef' }",
            ),
            "f:10:29",
            "cannot be the name of an operator",
            "1 to 64 of A-Z a-z 0-9 . _ -",
        ),
        (
            listener(
                "[admin]\naddress = '127.0.0.1:9925'\ntoken = '0123456789abcdef0123456789abcdef'\n\
                 operator_tokens = { ann = '0123456789abcdef0123456789abcdef' }",
            ),
            "f:11:27",
            "another token is the same",
            "give each its own",
        ),
        // SES.
        (
            listener("").replace("[ses]", "[ses]\nendpoint_url = 'https://a'\nfips = true"),
            "f:3:16",
            "cannot be combined with fips",
            "write the URL of the FIPS or dual-stack",
        ),
        (
            listener("").replace("[ses]", "[ses]\nemulator = true\nprofile = 'mail'"),
            "f:4:11",
            "so profile has no effect",
            "remove one of them",
        ),
        (
            listener("").replace("[ses]", "[ses]\nexternal_id = 'x'"),
            "f:3:15",
            "external_id without assume_role",
            "it belongs to a role that is assumed",
        ),
        (listener("[ses.tags]\n'a b' = 'c'"), "f:9:9", "cannot be the name of a tag", "A-Z"),
        (
            listener("[ses_emulator]\nlisten = '10.0.0.1:1'").replace("[ses]", "[ses]\nemulator = true"),
            "f:10:10",
            "loopback only",
            "127.0.0.1:0 takes a free port",
        ),
        // Bounds.
        (listener("[smtp]\nmessage_octets_max = 40000000"), "f:9:22", "too large for SES", "base64 adds a third"),
        (
            listener("[deadline]\nbase_seconds = 30"),
            "f:9:16",
            "a shutdown waits 25 s only",
            "raise shutdown_grace_seconds",
        ),
        (
            format!("shutdown_grace_seconds = 20\n{}", listener("")),
            "f:1:26",
            "a message of 29999000 octets may take 23.7 s",
            "raise shutdown_grace_seconds, or lower",
        ),
        (listener("[memory]\ndisk_octets = 1000"), "f:9:15", "would never fit", "at least smtp.message_octets_max"),
    ]
}

/// Applications, and everybody else.
fn applications() -> Vec<Row> {
    vec![
        // What cannot be read.
        (app("nmae = 'x'"), "f:12:1", "unknown key nmae in app.0", "did you mean name?"),
        (app("listener = ['main']"), "f:12:1", "unknown key listener in app.0", "did you mean listeners?"),
        (app("[[apps]]"), "f:12:3", "unknown key apps", "did you mean app?"),
        (with("[[app]]\nname = 'a b'"), "f:9:8", "app: 1 to 64 of A-Z", "name: 1 to 64"),
        (
            app("unchecked = ['author']"),
            "f:12:14",
            "\"author\" is not one of reverse-path, from",
            "unchecked: A list of addresses that need not match from",
        ),
        (app("enforcement = 'reprot'"), "f:12:15", "not one of enforce, report", "did you mean \"report\"?"),
        (app("foreign_from = true"), "f:12:16", "expected", "foreign_from: reject or rewrite"),
        (
            app("certificates = ['CN=billing']"),
            "f:12:17",
            "does not begin with fingerprint:",
            "certificates: A list of",
        ),
        (app("certificates = ['fingerprint:abc']"), "f:12:17", "not a SHA-256 in hex", "certificates: A list of"),
        (app("own_from = 'shop'"), "f:12:12", "\"shop\"", "own_from: An address, maybe with a name"),
        (
            app("own_from = 'a@example.com, b@example.com'"),
            "f:12:12",
            "not one address",
            "own_from: An address, maybe with a name:",
        ),
        (app("redirect_to = 'x@[10.0.0.1]'"), "f:12:15", "no address literals", "redirect_to: An address"),
        (
            app("attachments_denied = ['.exe']"),
            "f:12:23",
            "not a file name extension",
            "attachments_denied: A list of file",
        ),
        (app("recipients_max = 1001"), "f:12:18", "1001 is out of range: 1 to 1000", "recipients_max: Recipients"),
        (app("delivery = 'spool'"), "f:12:12", "there is no spool", "set directory in [spool]"),
        (app("delivery = 'queue'"), "f:12:12", "is not one of hand-off, spool", "delivery: hand-off, spool"),
        (
            app("delivery = 'spool'\n[spool]\ndirectory = 'DIR/empty'"),
            "f:14:13",
            "is not a directory",
            "name a directory, or a path that does not exist",
        ),
        (
            app("delivery = 'spool'\n[spool]\ndirectory = 'DIR/spool'\noctets_max = 1000"),
            "f:15:14",
            "a message of 29999000 octets would never fit",
            "at least smtp.message_octets_max",
        ),
        (
            app("delivery = 'spool'\n[spool]\ndirectory = 'DIR/spool'\nhand_off_seconds = 2"),
            "f:15:20",
            "no attempt to hand off would begin",
            "more than deadline.attempt_seconds_min",
        ),
        (
            app("[spool]\ntag = 'queue id'"),
            "f:13:7",
            "\"queue id\" is not a valid message tag",
            "tag: A message tag with the queue id",
        ),
        (app("tags = { user = '{user}' }"), "f:12:17", "cannot be the value of a tag", "{app} becomes"),
        (app("assume_role = 'gatepost'"), "f:12:15", "role ARN", "assume_role: The ARN of an IAM role"),
        (app("[aws]\naccount = '1234'"), "f:13:11", "not the number of an account", "account: The twelve digits"),
        // What contradicts itself, or stands for nothing.
        (
            with("[[app]]\nnetworks = ['127.1.0.0/16']\nfrom = ['*@a.example']"),
            "f:8:1",
            "needs a name",
            "name = \"billing\"",
        ),
        (with("[[app]]\nname = 'x'\nfrom = ['*@a.example']"), "f:8:1", "no key sets how", "certificates, auth"),
        (app("").replace("from = ", "display_names = "), "f:8:1", "from is empty", "or documents"),
        (
            app("[[app]]\nname = 'billing'\nauth = ['ann']\nfrom = ['*@a.example']"),
            "f:13:8",
            "called billing already",
            "each needs its own name",
        ),
        (app("").replace("'billing'", "'default'"), "f:9:8", "the name of the rules of [policy]", "choose another"),
        (app("listeners = ['mian']"), "f:12:14", "no listener is called \"mian\"", "did you mean \"main\"?"),
        (app("auth = ['ann', 'bob']"), "f:12:16", "there is no user \"bob\"", "gatepost hash-password"),
        (
            app("certificates = ['name:x.internal']"),
            "f:12:1",
            "no listener requests client certificates",
            "client_certificates",
        ),
        (
            app("auth = ['ann']\nlisteners = ['other']\n[[listener]]\nname = 'other'\naddress = '127.0.0.1:26'"),
            "f:12:1",
            "no listener offers AUTH",
            "set auth = \"required\" or \"optional\" on a",
        ),
        (app("foreign_from = 'rewrite'"), "f:12:16", "the replacement for From is not set", "own_from = "),
        (app("own_from = 'shop@example.com'"), "f:12:12", "own_from is never used", "set foreign_from"),
        (
            app("missing_from = 'fill'\nown_from = 'shop@other.example'"),
            "f:13:12",
            "matches no pattern of from",
            "add the address to from, or write another",
        ),
        (
            app("missing_from = 'fill'\ndisplay_names = ['Shop*']\nown_from = 'Billing <shop@example.com>'"),
            "f:14:12",
            "none of display_names",
            "add the name to display_names, or write",
        ),
        (
            app("external_id = 'x'"),
            "f:12:15",
            "external_id without assume_role",
            "it belongs to a role that is assumed",
        ),
        (app("tags = { 'a b' = 'c' }"), "f:12:18", "cannot be the name of a tag", "A-Z"),
        (app("[policy]\nclients = ['10.0.0.0/8']"), "f:13:1", "policy.clients has no effect", "set policy.from"),
        (
            app("[policy]\nnull_reverse_path = true"),
            "f:13:21",
            "policy.null_reverse_path has no effect",
            "set policy.from, or remove it",
        ),
        (
            app("assume_role = 'arn:aws:iam::111122223333:role/a'\n[[app]]\nname = 'b'\nauth = ['ann']\n\
                 from = ['*@b.example']\nassume_role = 'arn:aws:iam::111122223333:role/a'\nexternal_id = 'x'"),
            "f:17:15",
            "with another external_id",
            "one role has one external id",
        ),
        // Open relays.
        (
            app("")
                .replace("127.0.0.1:2525", "0.0.0.0:25")
                .replace("networks = ['127.1.0.0/16']", "listeners = ['main']"),
            "f:10:1",
            "every client that reaches 0.0.0.0:25 would be this application",
            "name its networks",
        ),
        (
            app("")
                .replace("auth = 'optional'", "proxy_protocol_from = ['127.0.0.1']\nauth = 'optional'")
                .replace("networks = ['127.1.0.0/16']", "listeners = ['main']"),
            "f:11:1",
            "every client that reaches 127.0.0.1:2525 would be this application",
            "name its networks, auth or certificates",
        ),
        (
            app("listeners = ['main']\n[[listener]]\naddress = '0.0.0.0:25'"),
            "f:14:11",
            "other machines can reach 0.0.0.0:25, and the configuration does not limit who may send",
            "an [[app]] with networks",
        ),
    ]
}

/// Users, and the files that they are in.
fn users() -> Vec<Row> {
    // The application and the listener depend on the users, and are not reported.
    let list = |source: &str| {
        let app = "[[app]]\nname = 'orders'\nauth = ['orders']\nfrom = ['*@a.example']";
        listener(&format!("auth = 'required'\nauth_in_clear = true\n[auth]\nuser_list = {source}\n{app}"))
    };
    vec![
        (list("{ file = 'DIR/none' }"), "f:11:1", "cannot read DIR/none: No such file", "put the file there"),
        (list("{ file = 'DIR' }"), "f:11:1", "cannot read DIR: Is a directory", "name a file in that directory"),
        (list("{ file = 'DIR/empty' }"), "f:11:1", "DIR/empty has no users in it", "one NAME:HASH a line"),
        (list("{ file = 'DIR/comments' }"), "f:11:1", "DIR/comments has no users in it", "gatepost hash-password"),
        (list("{ file = 'DIR/no-colon' }"), "f:11:1", "line 2 of DIR/no-colon is not NAME:HASH", "hash-password"),
        (list("{ file = 'DIR/password' }"), "f:11:1", "line 1 of DIR/password has no hash that can", "hash-password"),
        (list("{ file = 'DIR/twice' }"), "f:11:1", "has \"orders\" for the second time", "hash-password"),
        (list("{ env = 'USERS' }"), "f:11:1", "environment variable USERS is not set", "Environment= of its systemd"),
        (list("{ credential = 'users' }"), "f:11:1", "$CREDENTIALS_DIRECTORY is not set", "LoadCredential="),
        (
            list("{ file = 'DIR/users' }").replace("['orders']", "['order']"),
            "f:14:9",
            "there is no user \"order\"",
            "did you mean \"orders\"?",
        ),
        (
            app("").replace(&format!("'{HASH}'"), "{ file = 'DIR/users' }"),
            "f:2:12",
            "NAME:HASH, where the hash alone is expected",
            "remove NAME:, or name the file in auth.user_list",
        ),
        (app("").replace("auth.users.ann", "auth.users.''"), "f:2:17", "a user's name has 1 to 255", "a shorter name"),
    ]
}

/// Certificates and keys: which file.
fn certificates() -> Vec<Row> {
    let tls = |certificate: &str, key: &str| {
        let file = |name: &str| format!("{{ file = 'DIR/{name}' }}");
        let pair = format!("certificate = {}\nkey = {}", file(certificate), file(key));
        // Two listeners with one certificate: it is reported once.
        let second = "[[listener]]\naddress = '127.0.0.1:465'\ntls = 'implicit'";
        listener(&format!("tls = 'starttls'\n[tls]\n{pair}\n{second}"))
    };
    let clients = |source: &str| {
        tls("cert.pem", "key.pem").replace("[tls]", &format!("client_certificates = 'optional'\n[tls]\n{source}"))
    };
    vec![
        (tls("none.pem", "key.pem"), "f:10:1", "cannot read DIR/none.pem", "put the file there"),
        (tls("cert.pem", "none.pem"), "f:11:1", "cannot read DIR/none.pem", "put the file there"),
        (tls("cert.der", "key.pem"), "f:10:1", "cannot read DIR/cert.der", "must be PEM, not DER"),
        (tls("empty", "key.pem"), "f:10:1", "DIR/empty: no certificate in it", "it must be PEM text"),
        (tls("comments", "key.pem"), "f:10:1", "DIR/comments: no certificate in it", "-----BEGIN CERTIFICATE-----"),
        (tls("key.pem", "cert.pem"), "f:10:1", "DIR/key.pem: a private key, and no", "name the certificate in cert"),
        (tls("cert.pem", "cert.pem"), "f:11:1", "DIR/cert.pem: a certificate, and no private key", "the key in key"),
        (tls("cert.pem", "comments"), "f:11:1", "DIR/comments: no private key in it", "PKCS#8, PKCS#1 or SEC1"),
        (tls("cert.pem", "encrypted.pem"), "f:11:1", "the private key is encrypted", "openssl pkey -in"),
        (
            tls("one-line.pem", "key.pem"),
            "f:10:1",
            "DIR/one-line.pem: not PEM: a -----BEGIN …----- line is not alone on its line; of a variable, each \\n",
            "it must be PEM text",
        ),
        (tls("cut.pem", "key.pem"), "f:10:1", "DIR/cut.pem: not PEM", "-----END"),
        (
            tls("cert.pem", "other-key.pem"),
            "f:10:1",
            "DIR/cert.pem: the private key in DIR/other-key.pem is not the one of this certificate",
            "name the two files of one pair",
        ),
        (
            tls("v1.pem", "v1-key.pem"),
            "f:10:1",
            "DIR/v1.pem: an X.509 version 1 certificate, and TLS needs version 3",
            "subjectAltName",
        ),
        (tls("expired.pem", "expired-key.pem"), "f:10:1", "DIR/expired.pem: the certificate expired at", "renew it"),
        (tls("early.pem", "early-key.pem"), "f:10:1", "DIR/early.pem: the certificate is not valid before", "clock"),
        (clients(""), "f:9:23", "the issuers of client certificates are not set", "set client_authorities"),
        (
            clients("client_authorities = { file = 'DIR/empty' }"),
            "f:11:1",
            "DIR/empty: no certificate in it",
            "certificates of the issuers",
        ),
        (
            tls("cert.pem", "key.pem").replace(
                "[[listener]]\naddress = '127.0.0.1:465'",
                "further_pairs = [{ certificate = { file = 'DIR/expired.pem' }, key = { file = 'DIR/key.pem' } }]\n\
                 [[listener]]\naddress = '127.0.0.1:465'",
            ),
            "f:12:20",
            "DIR/expired.pem: the private key in DIR/key.pem",
            "one pair",
        ),
    ]
}

/// Names that refer to something, forms of networks and patterns.
fn names_and_forms() -> Vec<Row> {
    let clients = |network: &str| listener("").replace("[policy]", &format!("[policy]\nclients = ['{network}']"));
    let from = |pattern: &str| listener("").replace("*@example.com", pattern);
    let limit = |lines: &str| app(&format!("[[limit]]\nrates = ['9/s']\n{lines}")).replace("'billing'", "'cron'");
    vec![
        (
            clients("10.20.0.1-10.20.0.99"),
            "f:5:12",
            "is a range of addresses",
            "write the network around it, 10.20.0.0",
        ),
        (clients("10.20.0.0/255.255.0.0"), "f:5:12", "is not a network", "write 10.20.0.0/16"),
        (clients("10.20.*"), "f:5:12", "has a wildcard", "write 10.20.0.0/16"),
        (clients("10.20.0.0/33"), "f:5:12", "a prefix length that is not 0 to 32", "write for example 10.20.0.0/24"),
        (
            clients("mail.example.com"),
            "f:5:12",
            "is a name, and networks are made of IP addresses",
            "write 10.1.0.0/16",
        ),
        (
            clients("10.0.0.0/8, 10.1.0.0/16"),
            "f:5:12",
            "is several networks in one string",
            "each by itself: \"10.0.0.0/8\"",
        ),
        (clients("[::1]/128"), "f:5:12", "\"[::1]/128\" has brackets", "write ::1/128"),
        (clients("::ffff:10.0.0.0/104"), "f:5:12", "is an IPv4 network in IPv6 form", "write 10.0.0.0/8"),
        (clients("::ffff:10.0.0.7"), "f:5:12", "is an IPv4 network in IPv6 form", "write 10.0.0.7/32"),
        (
            listener("").replace("127.0.0.1:2525", &format!("unix:/{}", "d".repeat(107))),
            "f:7:11",
            "the path of the Unix socket has 108 bytes; the system permits 107",
            "address: IP:PORT",
        ),
        (from("*"), "f:5:9", "\"*\" has no @; write *@* for every address", "from: A list of patterns"),
        (from("<>"), "f:5:9", "\"<>\" has no @", "for MAIL FROM:<> set null_reverse_path"),
        (from("@example.com"), "f:5:9", "has nothing before the @", "write *@example.com"),
        (from(".*@example.com"), "f:5:9", "no regular expressions", "write *@example.com"),
        (from("^.*@example\\.com$"), "f:5:9", "no regular expressions", "write *@example.com"),
        (from("*@.example.com"), "f:5:9", "the domain must be a domain name", "*@*.example.com"),
        (limit("apps = ['crom']"), "f:14:9", "no application is called crom", "did you mean \"cron\"?"),
        (
            limit("apps = ['newsletter']"),
            "f:14:9",
            "no application is called newsletter",
            "as the file has it: \"cron\"",
        ),
        (limit("").replace("9/s", "9 per second"), "f:13:10", "\"9 per second\" is not a rate", "2000/min"),
        (limit("by = 'sender'"), "f:14:6", "\"sender\" is not one of app, auth", "by: app, auth, client"),
        (
            limit("[limits]\ntime_zone = 'Berlin'"),
            "f:15:13",
            "\"Berlin\" is not a time zone",
            "write a name such as Europe/Berlin",
        ),
        (
            limit("").replace("9/s", "9/day"),
            "f:13:1",
            "the counts of a daily or monthly quota must survive a restart",
            "set limits.state_directory",
        ),
        (
            listener("name = \"a\\u001bb\""),
            "f:8:8",
            "\"a\\u{1b}b\" has an unprintable character",
            "use letters, digits and signs",
        ),
    ]
}

/// Region, endpoint, identities.
fn region() -> Vec<Row> {
    let endpoint = |url: &str| ses(&format!("region = 'eu-west-1'\nendpoint_url = 'https://{url}'"));
    let identity = "identity_arn = 'arn:aws:ses:eu-central-1:111122223333:identity/example.com'";
    vec![
        (ses("region = 'EU-WEST-1'"), "f:3:10", "region \"EU-WEST-1\" has capital letters", "write eu-west-1"),
        (ses("region = 'eu-central-1a'"), "f:3:10", "is an availability zone, not a region", "write eu-central-1"),
        (ses("region = ' eu-west-1'"), "f:3:10", "has blanks around it", "write eu-west-1"),
        (ses("region = 'eu_west_1'"), "f:3:10", "cannot be the name of a region", "write eu-west-1"),
        (ses("region = 'Frankfurt'"), "f:3:10", "cannot be the name of a region", "such as eu-central-1"),
        (ses("region = ''"), "f:3:10", "region \"\" cannot be the name of a region", "such as eu-central-1"),
        (
            endpoint("email-smtp.eu-west-1.amazonaws.com"),
            "f:4:16",
            "is the SMTP endpoint of SES, and gatepost calls the API",
            "write https://email.eu-west-1.amazonaws.com",
        ),
        (
            endpoint("vpce-0123-abc.email-smtp.eu-west-1.vpce.amazonaws.com"),
            "f:4:16",
            "is the SMTP endpoint of SES",
            "of the service com.amazonaws.eu-west-1.email;",
        ),
        (
            endpoint("abc.wmjb.mail-manager-smtp.eu-west-1.amazonaws.com"),
            "f:4:16",
            "an SMTP endpoint of SES Mail Manager",
            "write https://email.eu-west-1.amazonaws.com",
        ),
        (
            endpoint("sns.eu-west-1.amazonaws.com"),
            "f:4:16",
            "an endpoint of the service sns",
            "write https://email.eu-west-1.amazonaws.com",
        ),
        (
            endpoint("email.eu-central-1.amazonaws.com"),
            "f:4:16",
            "this endpoint is in region eu-central-1, and calls are signed for region eu-west-1",
            "set ses.region = \"eu-central-1\"",
        ),
        (
            endpoint("vpce-0123-abc.email.eu-central-1.vpce.amazonaws.com"),
            "f:4:16",
            "this endpoint is in region eu-central-1",
            "set ses.region = \"eu-central-1\"",
        ),
        // The slip of the keyboard is named by what it contradicts.
        (
            endpoint("email.eu-central-1.amazonaws.com").replace("'eu-west-1'", "'eu-centrall-1'"),
            "f:4:16",
            "calls are signed for region eu-centrall-1",
            "set ses.region = \"eu-central-1\"",
        ),
        (
            endpoint("email.eu-west-1.amazonaws.com/v2/email/outbound-emails"),
            "f:4:16",
            "contains the path of the API",
            "write https://email.eu-west-1.amazonaws.com",
        ),
        (
            ses("region = 'eu-west-1'\nassume_role = 'arn:aws-us-gov:iam::111122223333:role/a'"),
            "f:4:15",
            "is in partition aws-us-gov, and region eu-west-1 is in aws",
            "begins with arn:aws:",
        ),
        (
            app("assume_role = 'arn:aws:iam::111122223333:role/a'\n[ses]\nregion = 'cn-north-1'"),
            "f:12:15",
            "is in partition aws, and region cn-north-1 is in aws-cn",
            "begins with arn:aws-cn:",
        ),
        (
            app("assume_role = 'arn:aws:iam::111122223333:role/*'"),
            "f:12:15",
            "role/*\" is not a valid role ARN: arn:PARTITION",
            "assume_role: The ARN of an IAM role",
        ),
        (
            ses("region = 'eu-west-1'\nidentity_arn = 'arn:aws-cn:ses:eu-west-1:111122223333:identity/example.com'"),
            "f:4:16",
            "is in partition aws-cn, and region eu-west-1 is in aws",
            "it begins with arn:aws: there",
        ),
        (
            ses(&format!("region = 'eu-west-1'\n{identity}")),
            "f:4:16",
            "is in region eu-central-1, and messages go to region eu-west-1",
            "name the identity that was verified in eu-west-1",
        ),
        (
            app(&format!("{identity}\n[ses]\nregion = 'eu-west-1'")),
            "f:12:16",
            "is in region eu-central-1, and messages go to region eu-west-1",
            "or set ses.region = \"eu-central-1\"",
        ),
    ]
}

/// IAM policy documents.
fn documents() -> Vec<Row> {
    let document = |name: &str| {
        app(&format!("documents = ['DIR/{name}']\n[aws]\naccount = '111122223333'\n[ses]\nregion = 'eu-west-1'"))
    };
    vec![
        (document("none.json"), "f:12:14", "cannot read DIR/none.json", "put the file there"),
        (document("empty"), "f:12:14", "DIR/empty: EOF while parsing", "or the file is empty"),
        (
            document("comma.json"),
            "f:12:14",
            "DIR/comma.json: trailing comma at line 1 column",
            "remove the comma before",
        ),
        (document("quotes.json"), "f:12:14", "line 1: typographic quote", "replace typographic quotes by plain ones"),
        (document("twice.json"), "f:12:14", "\"Effect\" occurs twice in one object", "keep one of the two"),
        (document("comments"), "f:12:14", "DIR/comments: expected value at line 1", "must be JSON"),
        (
            document("principal.json"),
            "f:12:14",
            "Principal is permitted in resource and endpoint",
            "has no Principal: remove it",
        ),
        (
            document("")
                .replace("documents = ['DIR/']", "[policy]\ndocuments = ['DIR/element.json', 'DIR/allow.json']"),
            "f:13:14",
            "DIR/element.json, statement 1: unknown element",
            "names of elements are",
        ),
        (document("element.json"), "f:12:14", "statement 1: unknown element \"Resouce\"", "names of elements are"),
        (document("effect.json"), "f:12:14", "statement 1: Effect must be \"Allow\" or \"Deny\"", "write \"Effect\""),
        (document("operator.json"), "f:12:14", "StringLikes", "gatepost policy lint"),
        (document("vpce.json"), "f:12:14", "condition key aws:SourceVpce has no value here", "only AWS can decide it"),
        (
            document("recipients.json"),
            "f:12:14",
            "ses:Recipients, which has many values",
            "ForAllValues: all recipients",
        ),
        (
            app("documents = ['DIR/allow.json']\n[ses]\nregion = 'eu-west-1'"),
            "f",
            "the account is not set",
            "[aws] account = ",
        ),
        (
            app("documents = ['DIR/allow.json']\n[aws]\naccount = '111122223333'"),
            "f",
            "the region is not set",
            "set ses.region",
        ),
    ]
}

/// What works and should not, or never does anything.
fn warned_of() -> Vec<Row> {
    let document = |name: &str| {
        app(&format!("documents = ['DIR/{name}']\n[aws]\naccount = '111122223333'\n[ses]\nregion = 'eu-west-1'"))
    };
    let limit = |lines: &str| listener(&format!("[[limit]]\nrates = ['9/s']\n{lines}"));
    let socket = "[[listener]]\nname = 'socket'\naddress = 'unix:/run/gatepost/smtp.sock'";
    let batch = "[[app]]\nname = 'batch'\nlisteners = ['socket']\nfrom = ['*@example.com']";
    vec![
        (
            app("[spool]\ndirectory = 'DIR/spool'"),
            "f:13:13",
            "no application uses the spool",
            "set delivery = \"spool\" or \"hand-off-else-spool\"",
        ),
        (
            app("delivery = 'spool'\n[spool]\ndirectory = 'DIR/spool'\napp_messages_max = 2000000"),
            "f:15:20",
            "it never counts: messages_max is 1000000",
            "lower it, or leave it out",
        ),
        (
            app("[smtp]\nrecipients_max = 100"),
            "f:13:18",
            "without a spool, recipients after the 50th receive 452",
            "SES accepts 50 in one call",
        ),
        (
            limit("over = 'defer'\ndelay_seconds_max = 9"),
            "f:11:21",
            "delay_seconds_max has no effect without over",
            "set over = \"delay\", or remove it",
        ),
        (
            listener(&format!("{socket}\nsocket_mode = '0666'")),
            "f:11:15",
            "every user of this machine can open this socket",
            "set \"0660\" and a group",
        ),
        (
            ses("region = 'eu-centrall-1'"),
            "f:3:10",
            "region \"eu-centrall-1\" is not known to this version of gatepost",
            "did you mean eu-central-1?",
        ),
        (ses("region = 'zz-nowhere-1'"), "f:3:10", "is not known to this version", "compare it with the list of AWS"),
        (
            document("action.json"),
            "f:12:14",
            "SES has no action \"ses:SendRawEmial\"; did you mean \"ses:SendRawEmail\"?",
            "allows and denies nothing",
        ),
        (document("prefix.json"), "f:12:14", "did you mean \"ses:SendRawEmail\"?", "allows and denies nothing"),
        (
            document("region.json"),
            "f:12:1",
            "messages are sent with arn:aws:ses:eu-west-1:111122223333:identity/…, and no statement allows",
            "compare partition, region and account",
        ),
        (document("account.json"), "f:12:1", "no statement allows ses:SendRawEmail on such an ARN", "[aws] account"),
        (document("partition.json"), "f:12:1", "no statement allows ses:SendRawEmail on such an ARN", "ses.region"),
        (document("reads.json"), "f:12:1", "no statement allows ses:SendRawEmail", "allow ses:SendRawEmail"),
        (document("deny.json"), "f:12:1", "no statement allows anything", "deny alone is not enough"),
        (document("wildcard.json"), "f:12:14", "matches nothing: AWS takes no wildcard", "gatepost policy lint"),
        (
            limit("by = 'auth'"),
            "f:10:6",
            "this limit never counts anything: no client has an AUTH name",
            "set auth on the listener, or count by = \"app\"",
        ),
        (
            with(&format!("{socket}\n{batch}\n[[limit]]\nrates = ['9/s']\nby = 'auth'\napps = ['batch']")),
            "f:17:6",
            "no client of batch has an AUTH name on the listeners that it can use",
            "count by = \"app\"",
        ),
        (
            with(&format!("{socket}\n{batch}\n[[limit]]\nrates = ['9/s']\nby = 'client'\napps = ['batch']")),
            "f:17:6",
            "no client of batch has a client address",
            "count by = \"app\"",
        ),
        (
            with("[[app]]\nname = 'x'\nnetworks = ['10.1.0.0/16']\nfrom = ['*@example.com']"),
            "f:10:1",
            "no listener that it may use has clients in these networks",
            "loopback addresses have clients on this machine only",
        ),
        (
            with(&format!("{socket}\n{batch}"))
                .replace("listeners = ['socket']", "listeners = ['socket']\nnetworks = ['127.0.0.0/8']"),
            "f:14:1",
            "no client can be this application",
            "name the listener in listeners instead of networks",
        ),
        (
            limit("of = 'octets'\n[smtp]\nmessage_octets_max = 100"),
            "f:9:1",
            "messages larger than the burst can never pass",
            "raise the burst",
        ),
        (
            listener("tls = 'implicit'\ncertificate = { file = 'DIR/soon.pem' }\nkey = { file = 'DIR/soon-key.pem' }"),
            "f:9:1",
            "DIR/soon.pem: the certificate expires at",
            "renew it",
        ),
    ]
}

/// The files that rows name.
fn files(directory: &Path) {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    };
    write("empty", "");
    write("comments", "# nothing\n\n");
    write("no-colon", &format!("orders:{HASH}\nbob\n"));
    write("password", "orders:hunter2\n");
    write("twice", &format!("orders:{HASH}\norders:{HASH}\n"));
    write("users", &format!("orders:{HASH}\n"));

    let pair = Pair::make(&["localhost".to_owned()]).unwrap();
    write("cert.pem", &pair.certificate);
    write("key.pem", &pair.key);
    write("one-line.pem", &pair.certificate.replace('\n', "\\n"));
    write("cut.pem", pair.certificate.split("-----END").next().unwrap());
    write("other-key.pem", &Pair::make(&["localhost".to_owned()]).unwrap().key);
    write("encrypted.pem", &pair.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    std::fs::write(directory.join("cert.der"), [0x30, 0x82, 0xff, 0xfe]).unwrap();
    write("v1.pem", V1);
    write("v1-key.pem", V1_KEY);
    let now = rcgen::date_time_ymd(1970, 1, 1) + SystemClock.wall().duration_since(std::time::UNIX_EPOCH).unwrap();
    let days = |days: u64| std::time::Duration::from_secs(days * 24 * 3600);
    for (name, from, until) in [
        ("expired", rcgen::date_time_ymd(2000, 1, 1), rcgen::date_time_ymd(2001, 1, 1)),
        ("early", rcgen::date_time_ymd(2089, 1, 1), rcgen::date_time_ymd(2090, 1, 1)),
        ("soon", rcgen::date_time_ymd(2020, 1, 1), now + days(13)),
    ] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        (parameters.not_before, parameters.not_after) = (from, until);
        write(&format!("{name}.pem"), &parameters.self_signed(&key).unwrap().pem());
        write(&format!("{name}-key.pem"), &key.serialize_pem());
    }

    let allow = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ses:SendRawEmail","Resource":"*"}}"#;
    let condition = |condition: &str| allow.replace("\"*\"}", &format!("\"*\",\"Condition\":{{{condition}}}}}"));
    for (name, text) in [
        ("allow.json", allow.to_owned()),
        ("comma.json", allow.replace("\"*\"}", "\"*\",}")),
        ("quotes.json", allow.replace("\"Allow\"", "\u{201c}Allow\u{201d}")),
        ("twice.json", allow.replace("\"Effect\"", "\"Effect\":\"Deny\",\"Effect\"")),
        ("principal.json", allow.replace("\"Effect\"", "\"Principal\":\"*\",\"Effect\"")),
        ("element.json", allow.replace("\"Resource\"", "\"Resouce\"")),
        ("effect.json", allow.replace("Allow", "allow")),
        ("operator.json", condition(r#""StringLikes":{"ses:FromAddress":"x"}"#)),
        ("vpce.json", condition(r#""StringEquals":{"aws:SourceVpce":"vpce-1"}"#)),
        ("recipients.json", condition(r#""StringLike":{"ses:Recipients":"*@example.com"}"#)),
        ("action.json", allow.replace("SendRawEmail", "SendRawEmial")),
        ("prefix.json", allow.replace("ses:SendRawEmail", "sesv2:SendRawEmail")),
        ("region.json", allow.replace("\"*\"", "\"arn:aws:ses:eu-west-2:111122223333:identity/example.com\"")),
        ("account.json", allow.replace("\"*\"", "\"arn:aws:ses:*:999922223333:identity/example.com\"")),
        ("partition.json", allow.replace("\"*\"", "\"arn:aws-cn:ses:eu-west-1:111122223333:identity/*\"")),
        ("reads.json", allow.replace("SendRawEmail", "GetAccount")),
        ("deny.json", allow.replace("Allow", "Deny")),
        ("wildcard.json", allow.replace("\"*\"", "\"arn:aws:s?s:eu-west-1:111122223333:identity/example.com\"")),
    ] {
        write(name, &text);
    }
}

/// `openssl x509 -req` without extensions: version 1. Good until 2126.
const V1: &str = "-----BEGIN CERTIFICATE-----
MIIBJzCBzQIUdBRJeRi4AkWe3iluiuH6axl7ogswCgYIKoZIzj0EAwIwFTETMBEG
A1UEAwwKdjEuZXhhbXBsZTAgFw0yNjExMzAxNzIyMDJaGA8yMTI2MTEwNjE3MjIw
MlowFTETMBEGA1UEAwwKdjEuZXhhbXBsZTBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABK+tbheeC7ClntbfCHsUdcnY5mxakxN/zPtsOJ/SuLdTAeqQKMMCr0Lt5jPN
xyOPQQuRJFos8XyFNAU31rB6smMwCgYIKoZIzj0EAwIDSQAwRgIhAKNRh2ArKU0v
Fd5DyNsxXWENqYmSioH+XkChxQppBMGcAiEA4Eflrnqvc2MCfQ2jrCBM5G8rPlcI
wiQhnQARTO7z17c=
-----END CERTIFICATE-----
";
const V1_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgFS1nKoS3ucmACtBQ
b/uvM+Bg8tqbpPPulsTel+MSsfehRANCAASvrW4XnguwpZ7W3wh7FHXJ2OZsWpMT
f8z7bDif0ri3UwHqkCjDAq9C7eYzzccjj0ELkSRaLPF8hTQFN9awerJj
-----END PRIVATE KEY-----
";

/// Errors and warnings of a text.
fn found(text: &str) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    match Config::parse(Path::new("f"), text, std::iter::empty()) {
        Ok(config) => match config.check(&ProcessEnvironment::default()) {
            Ok(plan) => (Vec::new(), plan.warnings),
            Err(found) => (found.errors, found.warnings),
        },
        Err(ConfigError::Wrong(diagnostics)) => (diagnostics, Vec::new()),
        Err(error) => panic!("{error}"),
    }
}

/// Every row that does not hold.
fn failures(rows: Vec<Row>, choose: impl Fn((Vec<Diagnostic>, Vec<Diagnostic>)) -> Vec<Diagnostic>) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    files(directory.path());
    let path = directory.path().display().to_string();
    let fails = |(text, place, what, hint): Row| {
        let diagnostics = choose(found(&text.replace("DIR", &path)));
        let [diagnostic] = diagnostics.as_slice() else {
            return Some(format!("wanted one diagnostic, {place} {what:?}\n{text}\ngot {diagnostics:#?}"));
        };
        let told = diagnostic.message.replace(&path, "DIR");
        let do_this = diagnostic.hint.clone().unwrap_or_default();
        // A form to copy may stand in the message, beside what is wrong.
        let advises = !hint.is_empty() && !do_this.is_empty() && format!("{told} {do_this}").contains(hint);
        let holds = diagnostic.location.to_string() == place && told.contains(what) && advises;
        (!holds).then(|| {
            format!(
                "wanted {place}\n  {what}\n  {hint}\nof\n{text}\ngot {}\n  {told}\n  {do_this}",
                diagnostic.location
            )
        })
    };
    rows.into_iter().filter_map(fails).collect()
}

#[test]
fn every_mistake_is_reported_once_with_what_is_wrong_where_and_what_to_do() {
    let tables = [
        unreadable(),
        contradictions(),
        applications(),
        users(),
        certificates(),
        names_and_forms(),
        region(),
        documents(),
    ];
    let rows: Vec<Row> = tables.into_iter().flatten().collect();
    assert!(rows.len() >= 150, "{}", rows.len());
    let wrong = failures(rows, |(errors, _)| errors);
    assert!(wrong.is_empty(), "{} rows\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn what_works_and_should_not_is_warned_of_with_where_and_what_to_do() {
    let wrong = failures(warned_of(), |(errors, warnings)| if errors.is_empty() { warnings } else { errors });
    assert!(wrong.is_empty(), "{} rows\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// A reload: rustls names some of the causes in words of its code.
#[test]
fn certificates_that_are_read_again_are_reported_in_the_same_words() {
    let directory = tempfile::tempdir().unwrap();
    files(directory.path());
    let path = directory.path().display().to_string();
    for (text, place, what, _) in certificates() {
        let config = Config::parse(Path::new("f"), &text.replace("DIR", &path), std::iter::empty()).unwrap();
        let again = config.plan(&ProcessEnvironment::default(), Purpose::Reload);
        // Clients that do not verify go on; what is outdated is a warning of its own.
        let is_outdated = what.contains("expired at") || what.contains("not valid before");
        let diagnostics = again.err().map(|error| error.diagnostics().to_vec()).unwrap_or_default();
        assert_eq!(diagnostics.is_empty(), is_outdated, "{text}");
        for diagnostic in diagnostics {
            assert_eq!(diagnostic.location.to_string(), place);
            assert!(diagnostic.message.replace(&path, "DIR").contains(what), "{diagnostic}");
        }
    }
}

#[test]
fn a_region_of_the_environment_is_looked_at_too() {
    let config = Config::parse(Path::new("f"), &ses(""), std::iter::empty()).unwrap();
    let of = |region: &str| ProcessEnvironment::new(vec![("AWS_REGION".to_owned(), region.to_owned())], None);
    let found = config.check(&of("eu-central-1a")).unwrap_err();
    assert_eq!(found.errors[0].location, Location::Variable("AWS_REGION".to_owned()));
    assert!(found.errors[0].message.contains("is an availability zone"), "{found:?}");
    assert!(config.check(&of("eu-central-1")).unwrap().warnings.is_empty());
    // And that of a profile, once the SDK has found it.
    let found = config.check_region(&ProcessEnvironment::default(), "eu-centrall-1").unwrap();
    assert!(found.errors.is_empty() && found.warnings.len() == 1, "{found:?}");
    assert_eq!(config.check_region(&of("eu-west-1"), "EU"), None, "it was looked at");
}
