use super::*;
use proptest::prelude::*;

fn mail_command(path: &str, parameters: MailParameters) -> Result<Command, &'static str> {
    let path = if path.is_empty() { ReversePath::Null } else { ReversePath::Mailbox(Mailbox::parse(path).unwrap()) };
    Ok(Command::Mail(path, parameters))
}

fn unreadable(text: &str, error: AddressError) -> MailParameters {
    let path = UnreadablePath { text: text.to_owned(), error };
    MailParameters { unreadable_path: Some(Box::new(path)), ..MailParameters::default() }
}

fn rcpt_command(path: &str) -> Result<Command, &'static str> {
    Ok(Command::Rcpt(ForwardPath::new(Mailbox::parse(path).unwrap()).unwrap()))
}

#[test]
fn lines_of_real_and_hostile_clients() {
    let plain = MailParameters::default();
    let sized = MailParameters { declared_octets: Some(1000), body: BodyType::EightBitMime, ..plain.clone() };
    let auth = |mechanism: &str, initial: Option<&str>| {
        Ok(Command::Auth { mechanism: mechanism.to_owned(), initial_response: initial.map(str::to_owned) })
    };
    let rows: Vec<(&str, &[u8], Result<Command, &'static str>)> = vec![
        ("ehlo", b"EHLO client.example", Ok(Command::Ehlo("client.example".into()))),
        ("ehlo with an underscore", b"ehlo scanner_3", Ok(Command::Ehlo("scanner_3".into()))),
        ("ehlo with a bad literal", b"EHLO [IPv6:::ffff:10.0.0.1]", Ok(Command::Ehlo("[IPv6:::ffff:10.0.0.1]".into()))),
        ("ehlo without a word", b"EHLO", Ok(Command::Ehlo(String::new()))),
        ("ehlo of two words", b"EHLO my printer", Ok(Command::Ehlo("my printer".into()))),
        ("ehlo in latin-1", b"EHLO b\xfcro", Ok(Command::Ehlo("b\u{fffd}ro".into()))),
        ("ehlo with a NUL", b"EHLO printer\0", Ok(Command::Ehlo("printer\u{fffd}".into()))),
        (
            "ehlo with a CR",
            b"EHLO x\rMAIL FROM:<>",
            Err("501 5.5.4 Syntax error in parameters or arguments: the line contains a control character"),
        ),
        ("helo", b"HELO x", Ok(Command::Helo("x".into()))),
        ("mail", b"MAIL FROM:<ann@a.example>", mail_command("ann@a.example", plain.clone())),
        ("mail, lower case", b"mail from:<ann@a.example>", mail_command("ann@a.example", plain.clone())),
        ("mail, space after the colon", b"MAIL FROM: <ann@a.example>", mail_command("ann@a.example", plain.clone())),
        ("mail, no brackets", b"MAIL FROM:ann@a.example", mail_command("ann@a.example", plain.clone())),
        (
            "mail, no brackets, space, size",
            b"MAIL FROM: ann@a.example SIZE=1000 BODY=8bitmime",
            mail_command("ann@a.example", sized.clone()),
        ),
        ("mail, trailing spaces", b"MAIL FROM:<ann@a.example>  \t", mail_command("ann@a.example", plain.clone())),
        ("mail, null", b"MAIL FROM:<>", mail_command("", plain.clone())),
        ("mail, null with a space", b"MAIL FROM: <> SIZE=1000 BODY=8BITMIME", mail_command("", sized.clone())),
        ("mail, AUTH=<>", b"MAIL FROM:<ann@a.example> AUTH=<>", mail_command("ann@a.example", plain.clone())),
        ("mail, quoted", b"MAIL FROM:<\"a> b\"@a.example>", mail_command("\"a> b\"@a.example", plain.clone())),
        (
            "mail, quoted address before another",
            b"MAIL FROM:<\"a@x.com> \"@evil.com>",
            mail_command("\"a@x.com> \"@evil.com", plain.clone()),
        ),
        // After a reply that a parameter is not recognized.
        (
            "mail, a name",
            b"MAIL FROM: Team <ann@a.example>",
            Err("501 5.1.7 Bad address syntax: text before <; only an address may stand here, no name"),
        ),
        (
            "mail, a name in quotes",
            b"MAIL FROM:\"Team\" <ann@a.example>",
            Err("501 5.1.7 Bad address syntax: text before <; only an address may stand here, no name"),
        ),
        (
            "mail, a quote",
            b"MAIL FROM:\"a b\"@a.example",
            Err("501 5.1.7 Bad address syntax: address has > or a quote and no angle brackets"),
        ),
        (
            "mail, only a closing bracket",
            b"MAIL FROM:ann@a.example>",
            Err("501 5.1.7 Bad address syntax: address has > or a quote and no angle brackets"),
        ),
        ("mail, nothing", b"MAIL FROM:", Err("501 5.1.7 Bad address syntax: address is missing")),
        (
            "mail, no from",
            b"MAIL <ann@a.example>",
            Err("501 5.5.4 Syntax error in parameters or arguments: expected MAIL FROM:<address>"),
        ),
        (
            "mail, space before the colon",
            b"MAIL FROM :<ann@a.example>",
            Err("501 5.5.4 Syntax error in parameters or arguments: expected MAIL FROM:<address>"),
        ),
        (
            "mail, route",
            b"MAIL FROM:<@b.example:ann@a.example>",
            Err("501 5.1.7 Bad address syntax: source routes are not accepted"),
        ),
        ("mail, open bracket", b"MAIL FROM:<ann@a.example", Err("501 5.1.7 Bad address syntax: > is missing")),
        (
            "mail, two paths",
            b"MAIL FROM:<ann@a.example><evil@b.example>",
            Err("501 5.1.7 Bad address syntax: text after >"),
        ),
        ("mail, no domain", b"MAIL FROM:<ann>", mail_command("", unreadable("ann", AddressError::NoDomain))),
        (
            "mail, utf-8 local part",
            "MAIL FROM:<jürgen@a.example>".as_bytes(),
            Err("553 5.6.7 Non-ASCII local parts are not supported"),
        ),
        (
            "mail, utf-8 domain",
            "MAIL FROM:<ann@bücher.example>".as_bytes(),
            mail_command("ann@xn--bcher-kva.example", plain.clone()),
        ),
        (
            "mail, latin-1",
            b"MAIL FROM:<j\xfcrgen@a.example>",
            Err("501 5.5.4 Syntax error in parameters or arguments: the line is not UTF-8"),
        ),
        (
            "mail, NUL",
            b"MAIL FROM:<ann@a.example>\0",
            Err("501 5.5.4 Syntax error in parameters or arguments: the line contains a control character"),
        ),
        (
            "mail, CR inside",
            b"MAIL FROM:<ann@a.example>\rRCPT TO:<b@c.example>",
            Err("501 5.5.4 Syntax error in parameters or arguments: the line contains a control character"),
        ),
        (
            "mail, SMTPUTF8",
            b"MAIL FROM:<ann@a.example> SMTPUTF8",
            Err("555 5.5.4 Parameter not recognized or not implemented: SMTPUTF8"),
        ),
        (
            "mail, BINARYMIME",
            b"MAIL FROM:<ann@a.example> BODY=BINARYMIME",
            Err("555 5.5.4 Parameter not recognized or not implemented: BODY=BINARYMIME"),
        ),
        (
            "mail, DSN",
            b"MAIL FROM:<ann@a.example> RET=HDRS",
            Err("555 5.5.4 Parameter not recognized or not implemented: RET=HDRS"),
        ),
        (
            "mail, size of 21 digits",
            b"MAIL FROM:<ann@a.example> SIZE=999999999999999999999",
            Err("501 5.5.4 Syntax error in parameters or arguments: SIZE must be 1 to 20 digits"),
        ),
        (
            "mail, size is not a number",
            b"MAIL FROM:<ann@a.example> SIZE=+5",
            Err("501 5.5.4 Syntax error in parameters or arguments: SIZE must be 1 to 20 digits"),
        ),
        ("rcpt", b"RCPT TO:<bob@b.example>", rcpt_command("bob@b.example")),
        ("rcpt, sloppy", b"rcpt to: bob@B.example ", rcpt_command("bob@b.example")),
        (
            "rcpt, DSN",
            b"RCPT TO:<bob@b.example> NOTIFY=NEVER",
            Err("555 5.5.4 Parameter not recognized or not implemented: NOTIFY=NEVER"),
        ),
        ("rcpt, null", b"RCPT TO:<>", Err("553 5.1.3 Recipient address is missing")),
        ("rcpt, two dots", b"RCPT TO:<a..b@b.example>", Err("501 5.1.3 Bad address syntax: local part is malformed")),
        ("rcpt, domain", b"RCPT TO:<bob@b_b.example>", Err("501 5.1.3 Bad address syntax: domain is malformed")),
        (
            "rcpt, no to",
            b"RCPT bob@b.example",
            Err("501 5.5.4 Syntax error in parameters or arguments: expected RCPT TO:<address>"),
        ),
        (
            "rcpt, long parameter",
            b"RCPT TO:<bob@b.example> XVERYLONG=01234567890123456789012345678901234567890",
            Err("555 5.5.4 Parameter not recognized or not implemented: XVERYLONG=012345678901234567890123456789"),
        ),
        ("rcpt, postmaster", b"RCPT TO:<postmaster>", Err("553 5.1.3 Recipient address needs a domain")),
        (
            "rcpt, literal",
            b"RCPT TO:<bob@[10.0.0.1]>",
            Err("550 5.1.2 Address literals are not accepted as recipient domain"),
        ),
        (
            "rcpt, utf-8 local part",
            "RCPT TO:<jürgen@a.example>".as_bytes(),
            Err("553 5.6.7 Non-ASCII local parts are not supported"),
        ),
        ("data", b"data", Ok(Command::Data)),
        (
            "data with an argument",
            b"DATA x",
            Err("501 5.5.4 Syntax error in parameters or arguments: DATA takes no argument"),
        ),
        ("bdat", b"BDAT 100", Ok(Command::Bdat { octets: 100, last: false })),
        ("bdat last", b"bdat 0 last", Ok(Command::Bdat { octets: 0, last: true })),
        (
            "bdat without a number",
            b"BDAT LAST",
            Err("501 5.5.4 Syntax error in parameters or arguments: expected BDAT octets [LAST]"),
        ),
        (
            "bdat, sign",
            b"BDAT +5",
            Err("501 5.5.4 Syntax error in parameters or arguments: expected BDAT octets [LAST]"),
        ),
        (
            "bdat, huge",
            b"BDAT 99999999999999999999",
            Err("501 5.5.4 Syntax error in parameters or arguments: expected BDAT octets [LAST]"),
        ),
        (
            "quit with an argument",
            b"QUIT now",
            Err("501 5.5.4 Syntax error in parameters or arguments: QUIT takes no argument"),
        ),
        (
            "starttls with an argument",
            b"STARTTLS x",
            Err("501 5.5.4 Syntax error in parameters or arguments: STARTTLS takes no argument"),
        ),
        ("auth plain", b"AUTH PLAIN AGEAYg==", auth("PLAIN", Some("AGEAYg=="))),
        ("auth login, lower case, user inline", b"auth login YW5u", auth("LOGIN", Some("YW5u"))),
        (
            "auth without a mechanism",
            b"AUTH",
            Err("501 5.5.4 Syntax error in parameters or arguments: expected AUTH mechanism [initial-response]"),
        ),
        (
            "auth of three words",
            b"AUTH PLAIN a b",
            Err("501 5.5.4 Syntax error in parameters or arguments: expected AUTH mechanism [initial-response]"),
        ),
        ("expn", b"EXPN list", Ok(Command::Expn)),
        ("noop with a word", b"NOOP hello", Ok(Command::Noop)),
        ("unknown", b"XCLIENT ADDR=1.2.3.4", Err("500 5.5.1 Command unrecognized")),
        ("empty", b"", Err("500 5.5.1 Command unrecognized")),
        ("8-bit verb", b"\xff\xfe", Err("500 5.5.1 Command unrecognized")),
    ];
    for (name, line, want) in rows {
        let got = parse(line).map_err(|bad| bad.reply.to_string());
        assert_eq!(got, want.map_err(str::to_owned), "{name}");
    }
}

#[test]
fn the_log_has_the_refused_argument_but_no_secret() {
    let long = format!("MAIL FROM:<{}>", "x".repeat(300));
    for (line, want) in [
        ("MAIL FROM: Team <ann@a.example>", "FROM: Team <ann@a.example>"),
        ("rcpt  to:<bob@b.example> NOTIFY=NEVER", "to:<bob@b.example> NOTIFY=NEVER"),
        ("DATA", ""),
        ("QUIT\tnow", "now"),
        ("MAIL FROM:<\u{e9}\r>", "FROM:<\u{e9}\r>"),
        ("AUTH PLAIN AGFubgBwYXNzd29yZA==", ""),
        ("auth", ""),
        // A password after an AUTH that was refused.
        ("cGFzc3dvcmQ=", ""),
        ("hunter2 ", ""),
        ("XCLIENT ADDR=192.0.2.1 LOGIN=ann", "XCLIENT"),
        ("", ""),
        (&long, &long[5..261]),
    ] {
        assert_eq!(argument(line.as_bytes()), want, "{line}");
    }
}

#[test]
fn a_refused_bdat_line_reports_its_chunk_length() {
    assert_eq!(parse(b"BDAT 86 FIRST").unwrap_err().chunk_octets, Some(86));
    // Regression: these had no chunk length, and the octets after them were run as commands.
    for line in [&b"BDAT x"[..], b"BDAT", b"BDAT 99999999999999999999", b"BDAT 86\0 LAST", b"BDAT 86 L\xff"] {
        assert_eq!(parse(line).unwrap_err().chunk_octets, Some(u64::MAX), "{line:?}");
    }
    assert_eq!(parse(b"RCPT x").unwrap_err().chunk_octets, None);
}

/// The oracle is more lenient in known ways: it unquotes, removes routes and accepts UTF-8. This test covers what it
/// parses correctly.
#[test]
fn smtp_proto_agrees_on_ordinary_mail_and_rcpt_lines() {
    use smtp_proto::Request;
    for address in ["ann@a.example", "a.b+c@x.y.example", "o'brien@a.example", "x@localhost"] {
        let line = format!("MAIL FROM:<{address}> SIZE=77\r\n");
        let Request::Mail { from } = Request::parse(&mut line.as_bytes().iter()).unwrap() else { panic!("{line}") };
        let Command::Mail(ReversePath::Mailbox(ours), parameters) = parse(line.trim_end().as_bytes()).unwrap() else {
            panic!("{line}")
        };
        assert_eq!(from.address, ours.to_string());
        assert_eq!(parameters.declared_octets, Some(from.size as u64));
    }
}

/// lettre is correct for quotes, dots, labels and control characters. It also accepts UTF-8 local parts, which SES
/// refuses.
#[cfg(feature = "cli")]
#[test]
fn lettre_agrees_on_what_an_address_is() {
    for text in [
        "ann@a.example",
        "a..b@c.example",
        "a@b@c",
        "a@-x.com",
        "a\r\n@b.example",
        "a b@c.example",
        "ann@[127.0.0.1]",
        "@b.example",
        "ann@",
        "ann",
        "x@localhost",
        "\"a b\"@c.example",
    ] {
        assert_eq!(text.parse::<lettre::Address>().is_ok(), Mailbox::parse(text).is_ok(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(line in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = parse(&line);
        let _ = verb(&line);
    }

    #[test]
    fn known_verbs_with_any_argument_never_panic(verb in "(MAIL FROM:|RCPT TO:|BDAT|AUTH|EHLO) ?", rest in "\\PC{0,40}") {
        let _ = parse(format!("{verb}{rest}").as_bytes());
    }
}

#[test]
fn stray_dots_are_quoted_in_rcpt_and_nowhere_else() {
    for (line, want) in [
        ("RCPT TO:<foo..bar@docomo.example>", Some("\"foo..bar\"@docomo.example")),
        ("rcpt to: <.foo.@docomo.example>", Some("\".foo.\"@docomo.example")),
        ("RCPT TO:<foo..bar@docomo.example> NOTIFY=NEVER", None),
        ("RCPT TO:<foo..b ar@docomo.example>", None),
        ("RCPT TO:<\"foo..bar\"@docomo.example>", None),
        ("RCPT TO:<foo..bar@x@docomo.example>", None),
        ("RCPT TO:<@docomo.example>", None),
        ("RCPT TO:<foo..bar>", None),
        ("RCPT TO:<foo..bar@docomo.example", None),
        ("MAIL FROM:<foo..bar@docomo.example>", None),
    ] {
        let got = parse_with_stray_dots(line.as_bytes()).map(|command| match command {
            Command::Rcpt(path) => path.to_string(),
            other => panic!("{line}: {other:?}"),
        });
        assert_eq!(got.as_deref(), want, "{line}");
    }
}
