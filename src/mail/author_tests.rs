use super::*;
use proptest::prelude::*;

fn read(value: &str) -> Result<Vec<String>, AuthorError> {
    let authors = parse(value.as_bytes())?;
    assert!(agree(value.as_bytes(), &authors), "mail-parser reads {value:?} otherwise than {authors:?}");
    Ok(authors.into_iter().map(|a| a.mailbox.to_string()).collect())
}

#[test]
fn unusual_but_valid_fields_have_the_author_that_is_displayed() {
    for (name, value, want) in [
        ("bare", " ann@a.example", &["ann@a.example"][..]),
        ("angle", " <ann@a.example>", &["ann@a.example"]),
        ("display name", " Ann Example <ann@a.example>", &["ann@a.example"]),
        ("quoted name", " \"Ann, of A\" <ann@a.example>", &["ann@a.example"]),
        ("quoted name with an address in it", " \"bob@b.example\" <ann@a.example>", &["ann@a.example"]),
        ("encoded word", " =?utf-8?q?J=C3=BCrgen?= <ann@a.example>", &["ann@a.example"]),
        ("dot in the name", " John Q. Public <ann@a.example>", &["ann@a.example"]),
        ("cron", " root@a.example (Cron Daemon)", &["root@a.example"]),
        ("nested comment", " root@a.example (a (b) \\) c)", &["root@a.example"]),
        ("folded", " Ann\r\n <ann@a.example>", &["ann@a.example"]),
        ("upper-case domain", " ann@A.EXAMPLE", &["ann@a.example"]),
        ("two authors", " ann@a.example, Bob <bob@b.example>", &["ann@a.example", "bob@b.example"]),
        ("name right before the bracket", " Ann<ann@a.example>", &["ann@a.example"]),
        ("space inside the brackets", " < ann@a.example >", &["ann@a.example"]),
        ("quoted local part", " \"ann example\"@a.example", &["\"ann example\"@a.example"]),
        ("plus", " billing+42@a.example", &["billing+42@a.example"]),
        ("the same address twice", " ann@a.example <ann@a.example>", &["ann@a.example"]),
        ("comment beside a name", " Ann (of A) <ann@a.example> (really)", &["ann@a.example"]),
        ("group", " team: ann@a.example, Bob <bob@b.example>;", &["ann@a.example", "bob@b.example"]),
    ] {
        assert_eq!(read(value), Ok(want.iter().map(|w| (*w).to_owned()).collect()), "{name}");
    }
}

#[test]
fn fields_with_two_interpretations_are_refused() {
    for (name, value) in [
        ("empty", " "),
        ("name only", " Ann"),
        ("two angle-addresses", " <ann@a.example> <evil@b.example>"),
        ("address as display name", " evil@b.example <ann@a.example>"),
        ("another address as the name of a group", " \"evil@b.example\": ann@a.example;"),
        ("another address as the encoded name of a group", " =?utf-8?q?evil=40b.example?=: ann@a.example;"),
        ("another address in a comment before a group", " (evil@b.example) team: ann@a.example;"),
        ("another address in a comment behind a group's name", " team (evil@b.example): ann@a.example;"),
        ("an unknown charset", " =?cp037?q?=83=85=96?= <ann@a.example>"),
        ("a C1 control of latin-1", " =?iso-8859-1?q?a=85b?= <ann@a.example>"),
        ("an encoded word in an encoded word", " =?utf-8?q?=3D=3Futf-8=3Fq=3Fa=3F=3D?= <ann@a.example>"),
        ("a question mark before an encoded line feed", " =?utf-8?q?a?b=0A?= <ann@a.example>"),
        ("another address in a comment", " Ann (evil@b.example) <ann@a.example>"),
        ("another address in a comment behind", " Ann <ann@a.example> (evil@b.example)"),
        ("encoded line feed", " =?utf-8?q?Ann=0AFrom=3A_evil=40b.example?= <ann@a.example>"),
        ("encoded CR in quotes", " \"=?utf-8?b?DQ==?=\" <ann@a.example>"),
        ("encoded tab", " =?utf-8?q?a=09b?= <ann@a.example>"),
        ("encoded NUL in a comment", " ann@a.example (=?utf-8?q?=00?=)"),
        ("encoded NEL", " =?utf-8?q?=C2=85?= <ann@a.example>"),
        ("encoded line separator", " =?utf-8?q?=E2=80=A8?= <ann@a.example>"),
        ("encoded DEL", " =?us-ascii?q?=7F?= <ann@a.example>"),
        ("another address twice", " ann@a.example <ann@b.example>"),
        ("text after the bracket", " <ann@a.example> evil@b.example"),
        ("route", " <@b.example:ann@a.example>"),
        ("route list", " <@b.example,@c.example:ann@a.example>"),
        ("comment inside", " ann(evil@b.example)@a.example"),
        ("comment inside brackets", " <ann@a.example(x)>"),
        ("space around the at", " ann @ a.example"),
        ("space around the dot", " ann. b@a.example"),
        ("unquoted comma", " Doe, Ann <ann@a.example>"),
        ("open quote", " \"Ann <ann@a.example>"),
        ("open comment", " ann@a.example (x"),
        ("open bracket", " Ann <ann@a.example"),
        ("nested bracket", " <<ann@a.example>>"),
        ("empty brackets", " Ann <>"),
        ("empty member", " ann@a.example,,bob@b.example"),
        ("trailing comma", " ann@a.example,"),
        ("two ats", " ann@a.example@b.example"),
        ("backslash outside", " ann\\@b.example@a.example"),
        ("open group", " team: ann@a.example"),
        ("nested group", " a: b: ann@a.example;;"),
        ("close first", " > ann@a.example"),
    ] {
        assert!(
            matches!(parse(value.as_bytes()), Err(AuthorError::Ambiguous(_))),
            "{name}: {:?}",
            parse(value.as_bytes())
        );
    }
    for (name, value) in [
        ("latin-1", &b" J\xfcrgen <ann@a.example>"[..]),
        ("utf-8", " Jürgen <ann@a.example>".as_bytes()),
        ("iso-2022-jp escape", b" \x1b$B<@\"\x1b(B <ann@a.example>"),
        ("nul", b" ann@a.example\0"),
    ] {
        assert!(matches!(parse(value), Err(AuthorError::NotAscii(_))), "{name}");
    }
}

/// mail-parser parses this value differently, so the result of this parser alone must not be accepted.
#[test]
fn a_quoted_local_part_with_an_at_is_not_confirmed_by_mail_parser() {
    let value = b" \"a@x.example\"@evil.example";
    let authors = parse(value).unwrap();
    assert_eq!(authors[0].mailbox.to_string(), "\"a@x.example\"@evil.example");
    assert!(!agree(value, &authors));
}

#[test]
fn deep_nesting_is_refused_and_not_recursed_into() {
    let value = format!(" ann@a.example {}", "(".repeat(100_000));
    assert!(matches!(parse(value.as_bytes()), Err(AuthorError::Ambiguous(_))));
}

#[test]
fn a_comment_is_the_name_where_there_is_no_other() {
    for (value, want) in [
        (" root@a.example (Cron Daemon)", Some("Cron Daemon")),
        (" <root@a.example> (Cron Daemon)", Some("Cron Daemon")),
        (" (Cron) root@a.example (Daemon)", Some("Cron Daemon")),
        (" Root <root@a.example> (Cron Daemon)", Some("Root")),
        (" root@a.example <root@a.example>", None),
        (" root@a.example", None),
    ] {
        assert_eq!(parse(value.as_bytes()).unwrap()[0].display_name.as_deref(), want, "{value}");
    }
}

#[test]
fn a_name_with_an_address_in_it_is_found_in_every_spelling() {
    let ann = Mailbox::parse("ann@a.example").unwrap();
    for name in [
        "ceo@b.example",
        "CEO (ceo@b.example)",
        "ceo@b.example via relay",
        "=?utf-8?q?ceo=40b.example?=",
        "=?utf-8?b?Y2VvQGIuZXhhbXBsZQ==?=",
        "=?utf-8?q?ceo=40?= =?utf-8?q?b.example?=",
        "ceo\u{ff20}b.example",
        "<ceo@b.example>",
        "ann@a.example, ceo@b.example",
        "(ceo)@b.example",
        "\"ceo\"@b.example",
        "ceo@<b.example>",
        "ceo @b.example",
        "ceo@\u{200b}b.example",
        "ceo\u{a0}@ b.example",
    ] {
        assert!(names_another(&ann, name), "{name}");
    }
    for name in [
        "Ann",
        "ann@a.example",
        "ANN@A.EXAMPLE",
        "Meet @ 5",
        "@ann",
        "Doe, Ann: \"the (first)\"",
        "ann@",
        "a @ b",
        "me@home",
        "a=b@c",
    ] {
        assert!(!names_another(&ann, name), "{name}");
    }
}

#[test]
fn a_field_that_is_too_long_for_mail_parser_is_refused() {
    let value = format!(" {} <ann@a.example>", "x".repeat(16 * 1024));
    assert!(matches!(parse(value.as_bytes()), Err(AuthorError::Ambiguous(_))));
}

proptest! {
    #[test]
    fn nothing_panics_and_accepted_fields_have_one_interpretation(value in "[a-c@<>\"(),;:.\\\\ \\[\\]=?]{0,40}") {
        if let Ok(authors) = parse(value.as_bytes()) {
            // `agree` must not panic, whatever it returns.
            let _ = agree(value.as_bytes(), &authors);
        }
    }
}

#[test]
fn display_names_are_decoded_in_every_charset_that_clients_still_use() {
    for (name, want) in [
        ("plain", "plain"),
        ("=?utf-8?q?J=C3=BCrgen_M=C3=BCller?=", "Jürgen Müller"),
        ("=?iso-8859-1?Q?Andr=E9?= Pirard", "André Pirard"),
        ("=?ISO-2022-JP?B?GyRCO1JFRBsoQg==?=", "子田"),
        ("=?EUC-KR?B?x9Gx2w==?=", "한글"),
        ("=?Shift_JIS?B?k/qWew==?=", "日本"),
    ] {
        assert_eq!(decode_phrase(name), want, "{name}");
    }
}

#[test]
fn the_domain_as_written_is_stored_besides_the_canonical_one() {
    for (field, written) in [
        (" Ann@Example.COM", "Ann@Example.COM"),
        (" Ann <Ann@Example.COM>", "Ann@Example.COM"),
        (" Ann@Example.COM <Ann@example.com>", "Ann@example.com"),
        (" \"a@b\"@X.example", "\"a@b\"@X.example"),
        (" ann@example.com", "ann@example.com"),
        (" ann@[IPv6:::1]", "ann@[IPv6:::1]"),
    ] {
        let authors = parse(field.as_bytes()).unwrap();
        assert_eq!(authors[0].address_as_written(), written, "{field}");
        assert_eq!(authors[0].mailbox, crate::mail::Mailbox::parse(written).unwrap(), "{field}");
    }
}
