use super::*;
use proptest::prelude::*;

fn content(text: &[u8]) -> Content {
    let end = blank_line(text, 0).unwrap_or(text.len());
    Content::new(Bytes::copy_from_slice(text), HeaderSection::parse(&text[..end], &HeaderLimits::default()).unwrap())
}

fn shortened(text: &[u8]) -> Result<Vec<u8>, String> {
    let shortened = shorten(&content(text), &HeaderLimits::default());
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
fn a_long_line_anywhere_else_is_refused() {
    let line = long("x ");
    let signed = PARTS.replace("multipart/mixed", "multipart/signed").replace("PLAIN", &line);
    let inside = format!(
        "From: a@a.example\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\nFrom: b@b.example\r\n\r\n{line}\r\n"
    );
    for (name, text) in [
        ("in the header section", format!("From: a@a.example\r\nSubject: {line}\r\n\r\nx\r\n")),
        ("in the header section, and in the body", format!("From: a@a.example\r\nX: {line}\r\n\r\n{line}\r\n")),
        (
            "in a part's header section",
            PARTS.replace("X-Kept: yes", &format!("X-Kept: {line}")).replace("PLAIN", &line),
        ),
        ("in the preamble", PARTS.replace("preamble", &line)),
        ("in the epilogue", PARTS.replace("epilogue", &line)),
        ("in an attachment", PARTS.replace("BINARY", &line)),
        ("in what is signed", signed),
        ("in a message inside the message", inside),
        (
            "in base64",
            format!(
                "From: a@a.example\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n",
                long("QUJD")
            ),
        ),
    ] {
        let error = shortened(text.as_bytes()).expect_err(name);
        assert!(error.contains("a line over 998 octets"), "{name}: {error}");
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
