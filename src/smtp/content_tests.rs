use super::*;
use proptest::prelude::*;

/// Content and the octets after the end, or the fault. `None`: the end was not found.
type Scanned = Option<Result<Vec<u8>, ContentFault>>;

fn scan(scanner: &mut Scanner, pieces: &[&[u8]]) -> (Scanned, Vec<u8>) {
    let mut content = Vec::new();
    let mut fault = None;
    let mut ended = false;
    let mut after = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        let mut stuck = 0;
        while !rest.is_empty() {
            if ended {
                after.extend_from_slice(rest);
                break;
            }
            let consumed = match scanner.step(rest) {
                Step::Content(n) => {
                    assert!(fault.is_none(), "content after a fault");
                    content.extend_from_slice(&rest[..n]);
                    n
                }
                Step::Dropped(n) => n,
                Step::Instead(n, octets) => {
                    content.extend_from_slice(octets);
                    n
                }
                Step::End(n) => {
                    ended = true;
                    n
                }
                Step::Fault(n, what) => {
                    fault = Some(what);
                    n
                }
            };
            stuck = if consumed == 0 { stuck + 1 } else { 0 };
            assert!(stuck < 3, "no progress at {rest:?}");
            rest = &rest[consumed..];
        }
    }
    let result = ended.then(|| fault.map_or(Ok(content), Err));
    (result, after)
}

fn scan_in_two(new: &dyn Fn() -> Scanner, wire: &[u8], cut: usize) -> (Scanned, Vec<u8>) {
    scan(&mut new(), &[&wire[..cut], &wire[cut..]])
}

#[test]
fn data_ends_at_crlf_dot_crlf_and_at_nothing_else() {
    use ContentFault::{BareLineEnd, LineTooLong, Nul};
    let rows: Vec<(&str, &[u8], Scanned)> = vec![
        ("empty message", b".\r\n", Some(Ok(b"".to_vec()))),
        ("one line", b"a\r\n.\r\n", Some(Ok(b"a\r\n".to_vec()))),
        ("dot-stuffed first line", b"..a\r\n.\r\n", Some(Ok(b".a\r\n".to_vec()))),
        ("dot-stuffed lines", b"a\r\n..\r\n...b\r\n.\r\n", Some(Ok(b"a\r\n.\r\n..b\r\n".to_vec()))),
        ("dot and text", b".a\r\n.\r\n", Some(Ok(b"a\r\n".to_vec()))),
        ("blank lines", b"\r\n\r\n.\r\n", Some(Ok(b"\r\n\r\n".to_vec()))),
        ("dot inside a line", b"a.\r\n.\r\n", Some(Ok(b"a.\r\n".to_vec()))),
        ("LF dot LF", b"a\n.\nb\r\n.\r\n", Some(Err(BareLineEnd))),
        ("LF dot CRLF", b"a\n.\r\nb\r\n.\r\n", Some(Err(BareLineEnd))),
        ("CRLF dot LF", b"a\r\n.\nb\r\n.\r\n", Some(Err(BareLineEnd))),
        ("CR dot CR", b"a\r.\rb\r\n.\r\n", Some(Err(BareLineEnd))),
        ("CRLF dot CR", b"a\r\n.\rb\r\n.\r\n", Some(Err(BareLineEnd))),
        ("dot CR CR LF", b"a\r\n.\r\r\n.\r\n", Some(Err(BareLineEnd))),
        ("CR CR LF dot CR LF", b"a\r\r\n.\r\n", Some(Err(BareLineEnd))),
        ("NUL", b"a\0b\r\n.\r\n", Some(Err(Nul))),
        ("line of the limit", b"0123456789\r\n.\r\n", Some(Ok(b"0123456789\r\n".to_vec()))),
        ("line over the limit", b"0123456789a\r\n.\r\n", Some(Err(LineTooLong))),
        ("NUL before the limit of the line", b"0\x0023456789abc\r\n.\r\n", Some(Err(Nul))),
        ("NUL behind the limit of the line", b"0123456789a\0\r\n.\r\n", Some(Err(LineTooLong))),
        ("never ends", b"a\r\n.\n.\r", None),
        ("LF LF dot", b"\n\n.\r\nQUIT\r\n", None),
    ];
    let new = || Scanner::data(LineEndings::Refuse, LongLines::Refuse, 10);
    for (name, wire, want) in rows {
        for cut in 0..=wire.len() {
            assert_eq!(scan_in_two(&new, wire, cut).0, want, "{name}, cut at {cut}");
        }
        let octets: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(scan(&mut new(), &octets).0, want, "{name}, octet by octet");
    }
}

/// One row for each run of CR and LF: as many line ends as LFs, and one if there is none.
#[test]
fn normalizing_converts_line_ends_and_does_not_move_the_end_of_data() {
    use ContentFault::BareLineEnd;
    type Row = (&'static str, &'static [u8], Result<&'static [u8], ContentFault>);
    let rows: Vec<Row> = vec![
        ("CR LF", b"a\r\nb\r\n.\r\n", Ok(b"a\r\nb\r\n")),
        ("LF", b"a\nb\r\n.\r\n", Ok(b"a\r\nb\r\n")),
        ("CR", b"a\rb\r\n.\r\n", Ok(b"a\r\nb\r\n")),
        ("CR CR", b"a\r\rb\r\n.\r\n", Ok(b"a\r\nb\r\n")),
        ("CR CR LF", b"a\r\r\nb\r\n.\r\n", Ok(b"a\r\nb\r\n")),
        ("CR CR CR LF", b"a\r\r\r\nb\r\n.\r\n", Ok(b"a\r\nb\r\n")),
        ("CR CR LF CR CR LF", b"a\r\r\n\r\r\nb\r\n.\r\n", Ok(b"a\r\n\r\nb\r\n")),
        ("LF LF", b"a\n\nb\r\n.\r\n", Ok(b"a\r\n\r\nb\r\n")),
        ("LF CR", b"a\n\rb\r\n.\r\n", Ok(b"a\r\nb\r\n")),
        ("LF CR LF", b"a\n\r\nb\r\n.\r\n", Err(BareLineEnd)),
        ("LF CR LF in the body", b"a\r\n\r\nb\n\r\nc\r\n.\r\n", Ok(b"a\r\n\r\nb\r\n\r\nc\r\n")),
        ("LF CR CR LF", b"a\n\r\r\nb\r\n.\r\n", Err(BareLineEnd)),
        ("CR LF LF", b"a\r\n\nb\r\n.\r\n", Err(BareLineEnd)),
        ("CR LF LF in the body", b"a\n\nb\r\n\nc\r\n.\r\n", Ok(b"a\r\n\r\nb\r\n\r\nc\r\n")),
        ("CR LF CR", b"a\r\n\rb\r\n.\r\n", Ok(b"a\r\nb\r\n")),
        ("CR LF CR CR LF", b"a\r\n\r\r\nb\r\n.\r\n", Ok(b"a\r\n\r\nb\r\n")),
        ("CR CR LF before the end", b"a\r\r\n.\r\n", Ok(b"a\r\n")),
        ("LF dot CRLF is a line", b"a\n.\r\nb\r\n.\r\n", Ok(b"a\r\n.\r\nb\r\n")),
        ("LF dot LF is a line", b"a\n.\nb\r\n.\r\n", Ok(b"a\r\n.\r\nb\r\n")),
        ("CR dot CR is a line", b"a\r.\rb\r\n.\r\n", Ok(b"a\r\n.\r\nb\r\n")),
        ("CRLF dot LF", b"a\r\n.\nb\r\n.\r\n", Err(BareLineEnd)),
        ("CRLF dot CR", b"a\r\n.\rb\r\n.\r\n", Err(BareLineEnd)),
        ("CRLF dot CR CR LF", b"a\r\n.\r\r\nb\r\n.\r\n", Err(BareLineEnd)),
        ("CRLF dot dot LF", b"a\r\n..\nb\r\n.\r\n", Ok(b"a\r\n.\r\nb\r\n")),
        ("first octet LF", b"\na\r\n.\r\n", Err(BareLineEnd)),
        ("first octet CR", b"\ra\r\n.\r\n", Ok(b"a\r\n")),
    ];
    for (name, wire, want) in rows {
        let new = || Scanner::data(LineEndings::Normalize, LongLines::Refuse, 10);
        let want = Some(want.map(<[u8]>::to_vec));
        for cut in 0..=wire.len() {
            assert_eq!(scan_in_two(&new, wire, cut).0, want, "{name}, cut at {cut}");
        }
    }
}

#[test]
fn chunks_have_no_dots() {
    let wire = b"..a\r\n.\r\nb\r\n";
    for cut in 0..=wire.len() {
        let mut scanner = Scanner::chunks(LineEndings::Refuse, LongLines::Refuse, 100);
        let mut content = Vec::new();
        for piece in [&wire[..cut], &wire[cut..]] {
            let mut rest = piece;
            while !rest.is_empty() {
                let Step::Content(n) = scanner.step(rest) else { panic!("cut at {cut}") };
                content.extend_from_slice(&rest[..n]);
                rest = &rest[n..];
            }
        }
        assert_eq!(content, wire);
        assert!(scanner.at_line_start());
    }
}

/// A direct implementation of RFC 5321 §4.5.2, as the reference.
fn reference(wire: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut content = Vec::new();
    let mut rest = wire;
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")? + 2;
        let line = &rest[..end];
        rest = &rest[end..];
        if line == b".\r\n" {
            return Some((content, wire.len() - rest.len()));
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
}

/// Converts each run of CR and LF into as many line ends as it has LFs, and one if it has none. The line end before the
/// content belongs to the first run.
fn repaired(content: &[u8]) -> Vec<u8> {
    let ends = |octet: &u8| matches!(octet, b'\r' | b'\n');
    let runs = content.chunk_by(|a, b| ends(a) == ends(b));
    let mut repaired = Vec::new();
    for (index, run) in runs.enumerate() {
        let lfs = run.iter().filter(|octet| **octet == b'\n').count();
        match run.first().is_some_and(ends) {
            false => repaired.extend_from_slice(run),
            true if index == 0 => repaired.extend(b"\r\n".repeat(lfs)),
            true => repaired.extend(b"\r\n".repeat(lfs.max(1))),
        }
    }
    repaired
}

/// Whether the first blank line is formed by a CR LF next to a bare LF.
fn has_doubtful_blank_line(content: &[u8]) -> bool {
    let ends = |octet: &u8| matches!(octet, b'\r' | b'\n');
    for (index, run) in content.chunk_by(|a, b| ends(a) == ends(b)).enumerate() {
        // Whether each line end has a CR. Before the content there was a CR LF.
        let mut kinds = if index == 0 { vec![true] } else { Vec::new() };
        let lfs = (0..run.len()).filter(|at| run[*at] == b'\n');
        kinds.extend(lfs.map(|at| at > 0 && run[at - 1] == b'\r'));
        if ends(&run[0]) && kinds.len() > 1 {
            return kinds[0] != kinds[1];
        }
    }
    false
}

proptest! {
    /// The end is where the reference finds it, for any data, including faults.
    #[test]
    fn the_end_is_where_the_reference_finds_it(wire in "[a.\r\n]{0,60}", cut in 0usize..60) {
        let wire = wire.as_bytes();
        let cut = cut.min(wire.len());
        let new = || Scanner::data(LineEndings::Refuse, LongLines::Refuse, 20);
        let (got, after) = scan_in_two(&new, wire, cut);
        match (reference(wire), got) {
            (None, got) => prop_assert_eq!(got, None),
            (Some((content, end)), Some(got)) => {
                prop_assert_eq!(after, &wire[end..]);
                if let Ok(ours) = got { prop_assert_eq!(ours, content); }
            }
            (Some(_), None) => prop_assert!(false, "the end was missed"),
        }
    }

    /// The fast path has the same result as single octets, which never use it.
    #[test]
    fn many_lines_at_once_are_read_as_octet_by_octet(
        wire in "([ab.]{0,4}(\r\n|\r\n|\r\n|\r\n|\r|\n|\x00|\r\n\\.|\r\n\\.\r\n)){0,12}",
        line_octets_max in 2usize..6,
        cut in 0usize..40,
        (normalize, long, chunks) in (any::<bool>(), any::<bool>(), any::<bool>()),
    ) {
        let endings = if normalize { LineEndings::Normalize } else { LineEndings::Refuse };
        let long = if long { LongLines::ReEncode } else { LongLines::Refuse };
        let new = || match chunks {
            true => Scanner::chunks(endings, long, line_octets_max),
            false => Scanner::data(endings, long, line_octets_max),
        };
        let wire = wire.as_bytes();
        let octets: Vec<&[u8]> = wire.chunks(1).collect();
        // The content, also if there is no end.
        let read = |scanner: &mut Scanner, pieces: &[&[u8]]| {
            let mut pieces = pieces.to_vec();
            if !chunks { pieces.push(b"x\r\n.\r\n") };
            let (mut content, mut fault) = (Vec::new(), None);
            for piece in pieces {
                let mut rest = piece;
                while !rest.is_empty() && fault.is_none() {
                    let consumed = match scanner.step(rest) {
                        Step::Content(n) => { content.extend_from_slice(&rest[..n]); n }
                        Step::Instead(n, octets) => { content.extend_from_slice(octets); n }
                        Step::Dropped(n) => n,
                        Step::End(_) => return (content, None, scanner.long),
                        Step::Fault(n, what) => { fault = Some(what); n }
                    };
                    rest = &rest[consumed..];
                }
            }
            if fault.is_some() { content.clear() };
            (content, fault, scanner.long && fault.is_none())
        };
        let each = read(&mut new(), &octets);
        prop_assert_eq!(&read(&mut new(), &[wire]), &each);
        let cut = cut.min(wire.len());
        prop_assert_eq!(&read(&mut new(), &[&wire[..cut], &wire[cut..]]), &each);
    }

    /// Conversion is a rule about runs of CR and LF, and does not move the end of data.
    #[test]
    fn repairing_makes_one_line_end_of_each_lf(wire in "(a|b|\\.|\r\n|\r\n|\r\r\n|\r|\n){0,24}\r\n\\.\r\n", cut in 0usize..60) {
        let wire = wire.as_bytes();
        let new = || Scanner::data(LineEndings::Normalize, LongLines::Refuse, 100);
        let (got, after) = scan_in_two(&new, wire, cut.min(wire.len()));
        let (content, end) = reference(wire).unwrap();
        prop_assert_eq!(after, &wire[end..]);
        // Lines that other readers take for a lone dot.
        let mut lines = wire[..end - 3].split_inclusive(|octet| *octet == b'\n');
        let mut start = true;
        let lone_dot = lines.any(|line| {
            let dot = start && (line == b".\n" || line.starts_with(b".\r"));
            start = line.ends_with(b"\r\n");
            dot
        });
        let refused = lone_dot || has_doubtful_blank_line(&content);
        let want = if refused { Err(ContentFault::BareLineEnd) } else { Ok(repaired(&content)) };
        prop_assert_eq!(got, Some(want));
    }

    #[test]
    fn smtp_proto_finds_the_same_end(wire in "a\r\n((\\.\\.[a.]{0,3}|a[a.]{0,3})?\r\n){0,8}\\.\r\n") {
        // The oracle ignores a dot in the first line and keeps a dot that is not stuffed.
        let mut theirs = smtp_proto::request::receiver::DataReceiver::new();
        let mut content = Vec::new();
        let ended = theirs.ingest(&mut wire.as_bytes().iter(), &mut content);
        let (ours, _) = scan(&mut Scanner::data(LineEndings::Refuse, LongLines::Refuse, 1000), &[wire.as_bytes()]);
        prop_assert!(ended);
        prop_assert_eq!(ours, Some(Ok(content)));
    }
}
