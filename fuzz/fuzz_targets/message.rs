//! A message of any octets: parts, names and address fields are read without a panic, in linear work, and the same however
//! the network cuts the body.
#![no_main]

use bytes::Bytes;
use gatepost::mail::headers::{HeaderLimits, blank_line};
use gatepost::mail::mime::{MimeLimits, Scanner};
use gatepost::mail::{Content, HeaderSection, address_list, author};
use libfuzzer_sys::fuzz_target;

/// Each reading of a field counts its octets once more.
const VISITS_MAX: u64 = 40;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, octets) = (usize::from(input.0) + 1, input.1);
    let end = blank_line(octets, 0).unwrap_or(octets.len());
    let Ok(header) = HeaderSection::parse(&octets[..end], &HeaderLimits::default()) else { return };
    let mut limits = MimeLimits::default();
    (limits.depth_max, limits.parts_max) = (5, 50);
    let fields = header.fields(octets).map(|field| (field.name, field.value));
    let Ok(mut scanner) = Scanner::new(limits, fields) else { return };
    let body = octets.get(end + 2..).unwrap_or_default();
    let fed = body.chunks(piece).try_for_each(|piece| scanner.feed(piece));
    assert!(scanner.octets_visited() <= VISITS_MAX * (octets.len() as u64 + 100));
    let cut = fed.and_then(|()| scanner.end());
    let whole = Content::parse(Bytes::copy_from_slice(octets), &HeaderLimits::default(), limits);
    match (cut, whole) {
        (Ok(cut), Ok(whole)) => {
            assert_eq!(&cut, whole.structure());
            for part in cut.parts() {
                assert!(part.header.start <= part.header.end && part.header.end <= part.body.start.max(part.header.end));
                assert!(part.body.start <= part.body.end && part.body.end <= body.len() as u64);
                assert!(part.parent.is_none_or(|parent| parent < cut.parts().len()));
            }
            for field in whole.fields() {
                if let Ok(authors) = author::parse(field.value) {
                    let _ = author::agree(field.value, &authors);
                    let _ = authors.iter().map(|author| author::names_another(&author.mailbox, field.name)).count();
                }
                let _ = address_list::check(field.value);
                let readable = address_list::readable(field.value).join(&b", "[..]);
                assert_eq!(address_list::check(&readable), Ok(()), "{readable:?}");
            }
        }
        (Err(_), Err(_)) => {}
        (cut, whole) => panic!("{cut:?} in pieces, {whole:?} at once"),
    }
});
