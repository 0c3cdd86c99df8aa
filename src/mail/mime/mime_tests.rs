use super::*;
use proptest::prelude::*;

fn scan_with(limits: MimeLimits, text: &[u8], pieces: usize) -> Result<(Structure, u64), MimeError> {
    let end = crate::mail::headers::blank_line(text, 0).unwrap_or(text.len());
    let header = crate::mail::HeaderSection::parse(&text[..end], &Default::default()).unwrap();
    let fields: Vec<_> = header.fields(text).collect();
    let mut scanner = Scanner::new(limits, fields.iter().map(|field| (field.name, field.value)))?;
    for piece in text.get(end + 2..).unwrap_or_default().chunks(pieces) {
        scanner.feed(piece)?;
    }
    let visited = scanner.octets_visited();
    scanner.end().map(|structure| (structure, visited))
}

fn scan(text: &str) -> Result<Structure, MimeError> {
    scan_with(MimeLimits::default(), text.replace('\n', "\r\n").as_bytes(), 64 * 1024).map(|(structure, _)| structure)
}

/// A message with one part that has these header fields.
fn attached(headers: &str) -> String {
    format!(
        "From: a@b.example\nContent-Type: multipart/mixed; boundary=\"x y\"\n\n--x y\nContent-Type: text/plain\n\nhello\n\
         --x y\n{headers}\n\nMZ\n--x y--\n"
    )
}

#[test]
fn a_file_name_is_found_in_every_spelling() {
    for (name, headers) in [
        ("filename", "Content-Disposition: attachment; filename=\"a.exe\""),
        ("name", "Content-Type: application/x; name=a.exe"),
        ("no blank", "Content-Disposition:attachment;filename=a.exe"),
        ("blank before the colon", "Content-Disposition : attachment; filename=a.exe"),
        ("case", "CONTENT-DISPOSITION: ATTACHMENT; FILENAME=a.exe"),
        ("blanks around the sign", "Content-Disposition: attachment; filename = \"a.exe\""),
        ("rfc 2231", "Content-Disposition: attachment; filename*=utf-8''a%2Eexe"),
        ("rfc 2231, no charset", "Content-Disposition: attachment; filename*=a%2Eexe"),
        ("rfc 2231, utf-16", "Content-Disposition: attachment; filename*=utf-16be''%00a%00.%00e%00x%00e"),
        ("rfc 2231 in quotes", "Content-Disposition: attachment; filename*=\"utf-8''a%2Eexe\""),
        ("percent without a star", "Content-Disposition: attachment; filename=\"a%2Eexe\""),
        ("pieces", "Content-Disposition: attachment; filename*0=\"a.e\"; filename*1=\"xe\""),
        ("pieces out of order", "Content-Disposition: attachment; filename*1=\"xe\"; filename*0=\"a.e\""),
        ("pieces as they stand", "Content-Disposition: attachment; filename*2=\"a.e\"; filename*1=\"xe\""),
        ("pieces with a gap", "Content-Disposition: attachment; filename*0=\"a.e\"; filename*7=\"xe\""),
        ("pieces, one of them encoded", "Content-Disposition: attachment; filename*0*=utf-8''a%2E; filename*1=\"exe\""),
        ("a first piece without a number", "Content-Disposition: attachment; filename=\"a.e\"; filename*1=\"xe\""),
        ("rfc 2047", "Content-Disposition: attachment; filename=\"=?utf-8?q?a=2Eexe?=\""),
        ("rfc 2047 without quotes", "Content-Disposition: attachment; filename==?utf-8?b?YS5leGU=?="),
        ("rfc 2047 in two words", "Content-Type: application/x;\n name=\"=?utf-8?q?a=2E?=\n =?utf-8?q?exe?=\""),
        ("folded", "Content-Disposition: attachment;\n filename=\"a.exe\""),
        ("folded inside", "Content-Disposition: attachment; filename=\"a.\n exe\""),
        ("twice, last", "Content-Disposition: attachment; filename=\"a.txt\"; filename=\"a.exe\""),
        ("twice, first", "Content-Disposition: attachment; filename=\"a.exe\"; filename=\"a.txt\""),
        (
            "two fields",
            "Content-Disposition: attachment; filename=a.txt\nContent-Disposition: attachment; filename=a.exe",
        ),
        ("a comment", "Content-Disposition: attachment; filename=(a comment) a.exe (another)"),
        ("a quoted pair", "Content-Disposition: attachment; filename=\"a\\.exe\""),
        ("an open quote", "Content-Disposition: attachment; filename=\"a.exe"),
        ("an open quote before", "Content-Disposition: attachment; x=\"; filename=a.exe"),
        ("a semicolon in quotes", "Content-Disposition: attachment; x=\"a;b\"; filename=a.exe"),
        ("single quotes", "Content-Disposition: attachment; filename='a.exe'"),
        ("after a line that is no field", "hello\nContent-Disposition: attachment; filename=a.exe"),
        ("text behind a value without quotes", "Content-Disposition: attachment; filename=a.exe x"),
        ("a quote behind a value", "Content-Disposition: attachment; filename=a.exe \"x\""),
        ("a comma behind a value", "Content-Disposition: attachment; filename=a.exe, x"),
        ("no disposition", "Content-Disposition: filename=a.exe"),
        ("no type", "Content-Type: name=\"a.exe\""),
        ("no semicolon", "Content-Disposition: attachment filename=\"a.exe\""),
        ("no semicolon between", "Content-Disposition: attachment; size=3 filename=a.exe"),
        ("a field in an encoded word", "Content-Disposition: =?utf-8?q?attachment=3B_filename=3Da.exe?="),
        ("pieces up to a gap", "Content-Disposition: attachment; filename*0=a.e; filename*1=xe; filename*3=.txt"),
        ("pieces, the first of two", "Content-Disposition: attachment; filename*0=a.e; filename*1=xe; filename*1=.txt"),
        ("comments before names", "Content-Disposition: attachment; (c) filename*0=a.; (d) filename*1=exe"),
        ("a comment in a name", "Content-Disposition: attachment; filename*0=\"a.\"; filename(c)*1=\"exe\""),
        ("an escape over two pieces", "Content-Disposition: attachment; filename*0*=utf-8''a%2; filename*1*=Eexe"),
        ("a question mark in an encoded word", "Content-Disposition: attachment; filename=\"=?utf-8?b?YS5l?eGU=?=\""),
    ] {
        let names: Vec<String> = scan(&attached(headers)).unwrap().names().map(str::to_owned).collect();
        assert!(names.iter().any(|name| name == "a.exe"), "{name}: {names:?}");
    }
}

#[test]
fn a_part_is_found_wherever_a_mail_program_finds_one() {
    let evil = "Content-Disposition: attachment; filename=a.exe\n\nMZ\n";
    let multipart = |kind: &str, body: &str| format!("From: a@b.example\nContent-Type: {kind}\n\n{body}");
    for (name, text) in [
        ("the message itself", format!("From: a@b.example\n{evil}")),
        ("the first part", multipart("multipart/mixed; boundary=b", &format!("--b\n{evil}--b--\n"))),
        ("no close delimiter", multipart("multipart/mixed; boundary=b", &format!("--b\n{evil}"))),
        ("after the close delimiter", multipart("multipart/mixed; boundary=b", &format!("--b\n\nx\n--b--\n{evil}"))),
        ("a part after the close", multipart("multipart/mixed; boundary=b", &format!("--b\n\nx\n--b--\n--b\n{evil}"))),
        ("text behind the boundary", multipart("multipart/mixed; boundary=b", &format!("--bxx\n{evil}"))),
        ("blanks behind the boundary", multipart("multipart/mixed; boundary=b", &format!("--b \t \n{evil}"))),
        ("a boundary in pieces", multipart("multipart/mixed; boundary*1=c; boundary*0=b", &format!("--bc\n{evil}"))),
        ("an encoded boundary", multipart("multipart/mixed; boundary*=us-ascii''b%20c", &format!("--b c\n{evil}"))),
        ("two boundaries, first", multipart("multipart/mixed; boundary=b; boundary=c", &format!("--b\n{evil}"))),
        ("two boundaries, last", multipart("multipart/mixed; boundary=b; boundary=c", &format!("--c\n{evil}"))),
        ("no semicolon", multipart("multipart/mixed boundary=b", &format!("--b\n{evil}"))),
        ("no subtype", multipart("multipart; boundary=b", &format!("--b\n{evil}"))),
        ("blanks in the type", multipart("Multipart / Mixed; boundary=b", &format!("--b\n{evil}"))),
        (
            "a boundary that begins another",
            multipart(
                "multipart/mixed; boundary=b",
                &format!("--b\nContent-Type: multipart/mixed; boundary=bc\n\n--bc\n\nx\n--bc--\n{evil}--b--\n"),
            ),
        ),
        ("text behind the boundary parameter", multipart("multipart/mixed; boundary=b x", &format!("--b\n{evil}"))),
        (
            "an encoded boundary parameter",
            multipart("multipart/mixed; boundary=\"=?utf-8?q?b?=\"", &format!("--b\n{evil}")),
        ),
        ("a message of another type", multipart("message/x-foo", evil)),
        ("a part of a message", multipart("message/partial; id=x", evil)),
        ("a type that is folded inside", multipart("message/r\n fc822", evil)),
        ("an encoded type", multipart("=?utf-8?q?message/rfc822?=", evil)),
        ("a message inside", multipart("message/rfc822", evil)),
        ("a message inside a message", multipart("message/rfc822", &format!("Content-Type: message/rfc822\n\n{evil}"))),
        ("a digest", multipart("multipart/digest; boundary=b", &format!("--b\n\n{evil}"))),
        (
            "a part without a blank line",
            multipart("multipart/mixed; boundary=b", "--b\nContent-Disposition: attachment; filename=a.exe\n--b--\n"),
        ),
        (
            "at the very end",
            multipart("multipart/mixed; boundary=b", "--b\nContent-Disposition: attachment; filename=a.exe"),
        ),
    ] {
        let structure = scan(&text).unwrap();
        assert!(structure.names().any(|name| name == "a.exe"), "{name}: {structure:#?}");
    }
}

#[test]
fn text_about_attachments_is_no_attachment() {
    let evil = "Content-Disposition: attachment; filename=a.exe\n";
    for (name, text) in [
        ("a body", format!("From: a@b.example\n\n{evil}")),
        ("a text part", attached("Content-Type: text/plain").replace("MZ", &format!("MZ\n{evil}"))),
        (
            "the preamble",
            attached("X: y")
                .replace("\n\n--x y\nContent-Type: text", &format!("\n\n\n{evil}\n--x y\nContent-Type: text")),
        ),
        ("behind two dashes", attached("X: y").replace("MZ", &format!("-- \n{evil}"))),
        ("a quoted message", attached("X: y").replace("MZ", &format!("--x\n{evil}"))),
    ] {
        assert_eq!(scan(&text).unwrap().names().count(), 0, "{name}");
    }
}

#[test]
fn parts_have_the_reported_positions() {
    let text =
        "From: a@b.example\nContent-Type: multipart/mixed; boundary=b\n\npreamble\n--b\nContent-Type: text/html\n\
                Content-Transfer-Encoding: BASE64 (x)\n\none\ntwo\n--b\n\nthree\n--b\nContent-Type: message/rfc822\n\n\
                Subject: x\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\nfour\n--c--\n\n--b--\nepilogue\n"
            .replace('\n', "\r\n");
    let body = text.split_once("\r\n\r\n").unwrap().1;
    for pieces in [1, 2, 3, 7, 1_000] {
        let (structure, _) = scan_with(MimeLimits::default(), text.as_bytes(), pieces).unwrap();
        assert!(structure.is_certain());
        let certain = structure.parts().iter().filter(|part| part.certain);
        let seen: Vec<(Option<usize>, &str, &str)> = certain
            .map(|part| (part.parent, &*part.media_type, &body[part.body.start as usize..part.body.end as usize]))
            .filter(|(.., body)| body.len() < 20)
            .collect();
        assert_eq!(
            seen,
            [(Some(0), "text/html", "one\r\ntwo"), (Some(0), "text/plain", "three"), (Some(4), "text/plain", "four"),],
            "{pieces}"
        );
        let html = &structure.parts()[1];
        assert_eq!(html.encoding, TransferEncoding::Base64);
        let header = &body[html.header.start as usize..html.header.end as usize];
        assert_eq!(header, "Content-Type: text/html\r\nContent-Transfer-Encoding: BASE64 (x)\r\n");
    }
}

/// Regression: text after the end of a digest was taken for another message.
#[test]
fn a_digest_has_as_many_messages_as_parts() {
    let text =
        "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\none\n--b\n\nSubject: y\n\ntwo\n--b--\n";
    let structure = scan(text).unwrap();
    let types: Vec<&str> = structure.parts().iter().filter(|part| part.certain).map(|part| &*part.media_type).collect();
    assert_eq!(types, ["multipart/digest", "message/rfc822", "text/plain", "message/rfc822", "text/plain"]);
    assert!(structure.parts().iter().all(|part| !part.media_type.is_empty()));
}

#[test]
fn ambiguous_structures_are_detected() {
    for (certain, name, text) in [
        (true, "plain", "From: a@b.example\n\nx\n".to_owned()),
        (true, "multipart", attached("X: y")),
        (false, "text behind a boundary", attached("X: y").replace("--x y--", "--x y junk")),
        (false, "a line that is no field", attached("hello")),
        (false, "two content types", attached("Content-Type: a/b\nContent-Type: c/d")),
        (false, "a part behind the end", format!("{}--x y\n\nmore\n", attached("X: y"))),
    ] {
        assert_eq!(scan(&text).unwrap().is_certain(), certain, "{name}");
    }
}

#[test]
fn other_text_is_not_taken_for_a_name() {
    for headers in [
        "Content-Type: application/x; hostname=www.example.com",
        "Content-Disposition: attachment; filename*0=\"report.com\"; filename*1=\"pany.pdf\"",
        "Content-Disposition: attachment; filename*0*=utf-8''package.js; filename*1*=on",
    ] {
        let structure = scan(&attached(headers)).unwrap();
        assert!(structure.names().all(|name| !name.ends_with(".com") && !name.ends_with(".js")), "{structure:#?}");
    }
    let opaque = attached("Content-Disposition: attachment; filename=\"=?cp037?q?=81=4B=85=A7=85?=\"");
    assert_eq!(scan(&opaque), Err(MimeError::UnreadableName));
}

#[test]
fn each_limit_has_its_error() {
    let limits = MimeLimits {
        depth_max: 2,
        parts_max: 6,
        header_octets_max: 200,
        header_fields_max: 3,
        parameters_max: 3,
        parameter_octets_max: 400,
    };
    let refused = |text: &str| scan_with(limits, text.replace('\n', "\r\n").as_bytes(), 11).map(|_| ()).unwrap_err();
    let nested = |depth: usize| {
        (0..depth).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n")).collect::<String>()
    };
    assert_eq!(refused(&nested(3)), MimeError::TooDeep(2));
    assert_eq!(refused(&"Content-Type: message/rfc822\n\n".repeat(3)), MimeError::TooDeep(2));
    assert_eq!(
        refused(&format!("Content-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\n".repeat(6))),
        MimeError::TooManyParts(6)
    );
    let part = |header: &str| refused(&attached(header));
    assert_eq!(part(&format!("X: {}", "y".repeat(300))), MimeError::HeaderTooLarge(200));
    assert_eq!(part(&"X: y\n".repeat(100)), MimeError::TooManyFields(3));
    assert_eq!(part("Content-Type: a/b; c=d; e=f; g=h; i=j"), MimeError::TooManyParameters(3));
    assert_eq!(part("Content-Type: a/b; name*0=d; name*1=f; name*2=h; name*3=j"), MimeError::TooManyParameters(3));
    let long = format!("Content-Type: a/b; c={}\nX: y\n\nx\n--x y\n", "d".repeat(150));
    assert_eq!(part(&long.repeat(3)), MimeError::ParametersTooLarge(400));
    assert_eq!(
        refused(&format!("Content-Type: multipart/mixed; boundary={}\n\n", "b".repeat(257))),
        MimeError::BoundaryTooLong(256)
    );
}

#[test]
fn a_long_epilogue_is_no_header_section() {
    let text = format!("{}{}", attached("X: y"), "a line of an epilogue: with a colon\n".repeat(10_000));
    assert!(scan(&text).is_ok());
}

/// The work is proportional to the octets, for any content. Each token a million times, alone and inside a part.
#[test]
fn the_work_is_proportional_to_the_size() {
    const TIMES: usize = 100_000;
    let tokens = [
        "--",
        "--b",
        "--b\r\n",
        "\r\n",
        "\r\n\r\n",
        "\r\n--",
        "\r\n-",
        "-",
        "--b--\r\n",
        "a: b\r\n",
        ":",
        ";",
        "=",
        "\"",
        "\\",
        "(",
        ")",
        "*",
        "*0=",
        "'",
        "%",
        "%2",
        "=?",
        "?=",
        "=?utf-8?q?",
        "=?utf-8?q?a?=",
        "; name=a",
        "; name*0=a",
        "; name*0*=%41",
        "; boundary=c",
        " ",
        "\t",
        "\r\n ",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
        "Content-Type: message/rfc822\r\n\r\n",
        "Content-Disposition: attachment; filename=a.exe\r\n",
        "--b\r\nContent-Type: a/b; name=\"c\"\r\n\r\n",
        "--b\r\n\r\n",
        "x",
    ];
    let frames = [
        "",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b; name=",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b; name=\"",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: a; name*=utf-8''",
        "Content-Type: message/rfc822\r\n\r\n",
    ];
    for frame in frames {
        for token in tokens {
            let text = format!("{}\r\n\r\n{frame}{}\r\n", "From: a@b.example", token.repeat(TIMES));
            // The frame is the header section of the message, or the body of a part.
            for text in [text.replacen("\r\n\r\n", "\r\n", 1), text] {
                let end = crate::mail::headers::blank_line(text.as_bytes(), 0).unwrap_or(text.len());
                let Ok(header) = crate::mail::HeaderSection::parse(&text.as_bytes()[..end], &Default::default()) else {
                    continue;
                };
                let fields: Vec<_> = header.fields(text.as_bytes()).map(|field| (field.name, field.value)).collect();
                let Ok(mut scanner) = Scanner::new(MimeLimits::default(), fields.into_iter()) else { continue };
                let body = text.as_bytes().get(end + 2..).unwrap_or_default();
                let fed = body.chunks(4096).try_for_each(|piece| scanner.feed(piece));
                assert!(scanner.octets_held() < 4 * 1024 * 1024, "{frame:?} {token:?}");
                let visited = scanner.octets_visited();
                assert!(visited <= 20 * text.len() as u64, "{frame:?} {token:?}: {visited} of {} {fed:?}", text.len());
                let _ = scanner.end();
            }
        }
    }
}

/// Boundaries that differ only in their last octet, nested to the maximum depth.
#[test]
fn the_work_is_proportional_for_lines_that_almost_are_delimiters() {
    let boundaries: Vec<String> = (0..20).map(|n| format!("{}{}", "b".repeat(60), char::from(b'a' + n))).collect();
    let mut text = "From: a@b.example\r\n".to_owned();
    for boundary in &boundaries {
        text.push_str(&format!("Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n--{boundary}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(&format!("--{}\r\n", "b".repeat(60)).repeat(50_000));
    let (_, visited) = scan_with(MimeLimits::default(), text.as_bytes(), 4096).unwrap();
    assert!(visited <= 25 * text.len() as u64, "{visited} of {}", text.len());
}

/// A well-formed message, as programs create it.
fn message() -> impl Strategy<Value = String> {
    let text = "(([a-zA-Z .-]{0,20}\r\n){0,4})";
    let leaf = (text, 0..5_usize, "[a-z]{1,8}\\.[a-z]{1,3}").prop_map(|(text, kind, name)| match kind {
        0 => format!("\r\n{text}"),
        1 => format!("Content-Type: text/html; charset=utf-8\r\n\r\n{text}"),
        2 => format!("Content-Type: application/octet-stream; name=\"{name}\"\r\n\r\n{text}"),
        3 => format!(
            "Content-Type: image/png\r\nContent-Disposition: attachment;\r\n filename*=utf-8''{name}\r\n\r\n{text}"
        ),
        _ => format!("Content-Disposition: attachment; filename={name}\r\n\r\n{text}"),
    });
    let tree = leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            3 => (proptest::collection::vec(inner.clone(), 1..4), "[A-Za-z0-9=_]{6,20}").prop_map(|(parts, boundary)| {
                let boundary = format!("=_{boundary}{}", parts.iter().map(String::len).sum::<usize>());
                let parts: String = parts.iter().map(|part| format!("--{boundary}\r\n{part}\r\n")).collect();
                format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n{parts}--{boundary}--\r\n")
            }),
            1 => inner.prop_map(|inner| format!("Content-Type: message/rfc822\r\n\r\nSubject: inside\r\n{inner}")),
        ]
    });
    tree.prop_map(|tree| format!("From: a@b.example\r\nMIME-Version: 1.0\r\n{tree}"))
}

/// Media types and names of all parts, according to mail-parser.
fn theirs(message: &mail_parser::Message<'_>, seen: &mut Vec<(String, Option<String>)>) {
    use mail_parser::{MimeHeaders, PartType};
    for part in &message.parts {
        let kind = part.content_type().map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()));
        seen.push((kind.unwrap_or_else(|| "text/plain".to_owned()), part.attachment_name().map(str::to_owned)));
        if let PartType::Message(inner) = &part.body {
            theirs(inner, seen);
        }
    }
}

/// Regression: the rest of such a line was parsed as the first field of its part, depending on where the network
/// divided the line.
#[test]
fn a_long_delimiter_is_one_line_wherever_it_is_divided() {
    let long = "x".repeat(200);
    let text = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b{long}Content-Type: a/b\r\n\r\n--b{}x\r\nA: b\r\n--b{long}--\r\n",
        " ".repeat(200)
    );
    let whole = scan_with(MimeLimits::default(), text.as_bytes(), usize::MAX).unwrap().0;
    assert_eq!((whole.parts().len(), whole.is_certain()), (4, false));
    for pieces in 1..300 {
        assert_eq!(scan_with(MimeLimits::default(), text.as_bytes(), pieces).unwrap().0, whole, "{pieces}");
    }
}

proptest! {
    #[test]
    fn mail_parser_sees_the_same_parts_and_names(text in message(), pieces in 1..40_usize) {
        // mail-parser panics on a message that contains only a message.
        prop_assume!(!text.contains("rfc822\r\n\r\nSubject: inside\r\nContent-Type: message/rfc822"));
        let (structure, _) = scan_with(MimeLimits::default(), text.as_bytes(), pieces).unwrap();
        let mut seen = Vec::new();
        theirs(&mail_parser::MessageParser::new().parse(text.as_bytes()).unwrap(), &mut seen);
        let mut ours: Vec<(String, Option<String>)> = structure.parts().iter().filter(|part| part.certain)
            .map(|part| (part.media_type.clone(), part.names.iter().min_by_key(|name| name.len()).cloned())).collect();
        ours.sort();
        seen.sort();
        prop_assert_eq!(ours, seen, "{}", text);
        prop_assert!(structure.is_certain());
    }

    /// The result does not depend on where the network divides the message.
    #[test]
    fn the_result_does_not_depend_on_the_pieces(
        text in "(--b|--b--|--bc|-|\r\n|\r\n|\r\n|a: b|Content-Type: multipart/mixed; boundary=b|Content-Type: multipart/x; boundary=bc|\
                 Content-Disposition: x; filename=a| folded|x){0,40}",
        pieces in 1..20_usize,
    ) {
        let text = format!("From: a@b.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{text}");
        let whole = scan_with(MimeLimits::default(), text.as_bytes(), usize::MAX).map(|(structure, _)| structure);
        prop_assert_eq!(scan_with(MimeLimits::default(), text.as_bytes(), pieces).map(|(structure, _)| structure), whole);
    }
}
