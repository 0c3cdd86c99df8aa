use super::*;
use mail_parser::{MessageParser, PartType};
use proptest::prelude::*;

fn content(text: &[u8]) -> Content {
    Content::parse(Bytes::copy_from_slice(text), &HeaderLimits::default(), MimeLimits::default()).unwrap()
}

fn shortened(text: &[u8]) -> Result<Vec<u8>, String> {
    let shortened = shorten(&content(text), &HeaderLimits::default(), MimeLimits::default());
    shortened.map(|content| content.into_octets().to_vec()).map_err(|refusal| refusal.detail)
}

/// Bodies of all parts, decoded, by the library.
fn texts(octets: &[u8]) -> Vec<Vec<u8>> {
    let message = MessageParser::new().parse(octets).unwrap();
    let parts = message.parts.iter().filter(|part| !matches!(part.body, PartType::Multipart(_)));
    parts.map(|part| part.contents().to_vec()).collect()
}

fn long(word: &str) -> String {
    word.repeat(1_200 / word.len() + 1)
}

const PARTS: &str = "From: a@a.example\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
    preamble\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nX-Kept: yes\r\n\r\nPLAIN\r\n\
    --b\r\nContent-Type: text/html\r\n\r\nHTML\r\n--b\r\nContent-Type: application/octet-stream\r\n\
    Content-Transfer-Encoding: 8bit\r\n\r\nBINARY\r\n--b--\r\nepilogue\r\n";

#[test]
fn a_text_body_becomes_quoted_printable_and_says_the_same() {
    let line = long("Grüße = <b>.</b> ");
    for (name, text) in [
        ("no MIME at all", format!("From: a@a.example\r\n\r\nshort\r\n{line}\r\n.dot \r\n")),
        (
            "a declared encoding",
            format!("From: a@a.example\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{line}\r\n"),
        ),
        ("a plain part", PARTS.replace("PLAIN", &line)),
        ("an HTML part", PARTS.replace("HTML", &line)),
        ("both", PARTS.replace("PLAIN", &line).replace("HTML", &line)),
        (
            "bad quoted-printable",
            PARTS
                .replace("8bit\r\nX-Kept", "quoted-printable\r\nX-Kept")
                .replace("PLAIN", &long("=C3=BC no soft breaks ")),
        ),
    ] {
        let short = shortened(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(long_lines(&short).next().is_none(), "{name}");
        assert_eq!(texts(&short), texts(text.as_bytes()), "{name}");
        let shown = String::from_utf8(short).unwrap();
        assert!(shown.contains("Content-Transfer-Encoding: quoted-printable\r\n"), "{name}");
        assert!(shown.contains("MIME-Version: 1.0\r\n"), "{name}");
        if name.ends_with("part") {
            assert!(
                shown.contains("X-Kept: yes\r\n") && shown.contains("preamble") && shown.contains("epilogue"),
                "{name}"
            );
            assert_eq!(shown.matches("quoted-printable").count(), 1, "{name}: and the other part is as it was");
        }
    }
}

#[test]
fn a_text_that_is_mostly_not_ascii_becomes_base64_and_grows_by_a_third_only() {
    for (name, text) in
        [("plain", PARTS.replace("PLAIN", &long("\u{436}\u{438}"))), ("html", PARTS.replace("HTML", &long("\u{672c}")))]
    {
        let short = shortened(text.as_bytes()).unwrap();
        assert!(long_lines(&short).next().is_none(), "{name}");
        assert_eq!(texts(&short), texts(text.as_bytes()), "{name}");
        let shown = String::from_utf8(short.clone()).unwrap();
        assert_eq!(shown.matches("Content-Transfer-Encoding: base64\r\n").count(), 1, "{name}");
        assert!(short.len() < text.len() * 7 / 5, "{name}: {} of {}", short.len(), text.len());
    }
}

#[test]
fn a_long_line_anywhere_else_is_refused() {
    let line = long("x ");
    let signed = PARTS.replace("multipart/mixed", "multipart/signed").replace("PLAIN", &line);
    let inside = format!(
        "From: a@a.example\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\nFrom: b@b.example\r\n\r\n{line}\r\n"
    );
    for (name, text) in [
        ("in a header field without blanks", format!("From: a@a.example\r\nX: {}\r\n\r\nx\r\n", long("x"))),
        ("in a header field of blanks", format!("From: a@a.example\r\nX: y{}\r\n\r\nx\r\n", long(" "))),
        ("in a field name", format!("From: a@a.example\r\n{}: x\r\n\r\nx\r\n", long("x"))),
        (
            "in a part's header section",
            PARTS.replace("X-Kept: yes", &format!("X-Kept: {}", long("x"))).replace("PLAIN", &line),
        ),
        (
            "in parts that lie where only some readers see them",
            PARTS.replace("--b\r\nContent-Type: text/html", "--b x\r\nContent-Type: text/html").replace("HTML", &line),
        ),
        ("in base64 of a signed part", signed.replace("8bit", "base64")),
        ("in the preamble", PARTS.replace("preamble", &line)),
        ("in the epilogue", PARTS.replace("epilogue", &line)),
        ("in an attachment", PARTS.replace("BINARY", &line)),
        ("in what is signed", signed),
        ("in a message inside the message", inside),
        (
            "in base64 that is none",
            format!(
                "From: a@a.example\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n",
                long("QUJ--b")
            ),
        ),
    ] {
        let error = shortened(text.as_bytes()).expect_err(name);
        assert!(error.contains("a line over 998 octets"), "{name}: {error}");
    }
}

/// What programs write that build MIME by hand: nullmailer's To field, an attachment in one line.
#[test]
fn base64_is_wrapped_and_fields_are_folded() {
    let to = (0..40).map(|n| format!("Recipient number {n} <recipient-{n}@b.example>")).collect::<Vec<_>>().join(", ");
    let line = long("QUJDRA");
    let text = PARTS
        .replace("Subject: x", &format!("To: {to}\r\nSubject: x"))
        .replace("8bit\r\n\r\nBINARY", &format!("base64\r\n\r\nQUJD\r\n{line}\r\nQUJD"));
    let short = shortened(text.as_bytes()).unwrap();
    assert!(long_lines(&short).next().is_none());
    assert_eq!(texts(&short), texts(text.as_bytes()));
    let shown = String::from_utf8(short).unwrap();
    assert!(shown.lines().all(|line| line.len() <= HEADER_LINE_OCTETS));
    let content = content(shown.as_bytes());
    let field = content.fields_named("To").next().unwrap();
    assert_eq!(String::from_utf8_lossy(field.value).replace("\r\n", "").trim(), to, "nothing but folds is new");
    assert!(!shown.contains("quoted-printable"), "no other body changes");
}

#[test]
fn a_field_is_folded_where_it_has_blanks_and_says_the_same() {
    let far = "x".repeat(500);
    for value in
        [long("x "), format!("{far} {far} {far}"), format!("  {}", long("x\t y")), format!("{far}   {far} {far}")]
    {
        let text = format!("From: a@a.example\r\nX:{value}\r\n\r\nx\r\n");
        let short = shortened(text.as_bytes()).unwrap_or_else(|error| panic!("{value}: {error}"));
        let shown = String::from_utf8(short).unwrap();
        assert!(shown.lines().all(|line| line.is_empty() || !line.trim().is_empty()), "no line is blank: {shown}");
        assert!(shown.lines().all(|line| line != "X:"), "{shown}");
        assert_eq!(shown.replace("\r\n\t", "\t").replace("\r\n ", " "), text);
    }
}

/// A soft line break could begin a line that reads as a delimiter: then there would be a part that was not there.
#[test]
fn a_broken_line_does_not_become_a_delimiter() {
    for column in 60..90 {
        let line = format!("{}--b{}", "x".repeat(column), "y".repeat(1_000));
        let text = PARTS.replace("PLAIN", &line);
        if let Ok(short) = shortened(text.as_bytes()) {
            let parts = content(&short).structure().parts().len();
            assert_eq!(parts, content(text.as_bytes()).structure().parts().len(), "{column}");
        }
    }
}

/// What once could have happened to a line that is broken at 998: what stands behind it begins a line of its own.
#[test]
fn a_from_field_does_not_come_out_of_a_long_line() {
    let bait = format!("{}From: ceo@b.example\r\n", "x".repeat(998));
    for text in [
        format!("From: a@a.example\r\nX-Long: {bait}\r\nbody\r\n"),
        format!("From: a@a.example\r\n\r\n{bait}"),
        PARTS.replace("PLAIN", &bait),
    ] {
        let Ok(short) = shortened(text.as_bytes()) else { continue };
        let lines = String::from_utf8(short).unwrap();
        assert_eq!(lines.lines().filter(|line| line.to_ascii_lowercase().starts_with("from:")).count(), 1, "{lines}");
    }
}

proptest! {
    #[test]
    fn whatever_the_text_it_stays_the_same(
        lines in proptest::collection::vec("[ -~\u{e4}\u{fc}\u{df}\t]{0,1500}", 1..6), html in any::<bool>(),
    ) {
        let body = lines.join("\r\n");
        let text = PARTS.replace(if html { "HTML" } else { "PLAIN" }, &body.replace("--b", "--c"));
        if let Ok(short) = shortened(text.as_bytes()) {
            prop_assert!(long_lines(&short).next().is_none());
            prop_assert_eq!(texts(&short), texts(text.as_bytes()));
        }
    }
}
