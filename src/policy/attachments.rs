//! Refuses attachments by type: the file name extensions of all parts, in every reading that a mail program may use.

use super::app::refusal;
use crate::mail::mime::Structure;
use crate::mail::{Refusal, replies};

/// Refuses a message with an attachment of a denied type. `denied`: extensions, lower case, without dot.
pub(super) fn judge(structure: &Structure, denied: &[String]) -> Result<(), Refusal> {
    match structure.names().find(|name| denies(denied, name)) {
        None => Ok(()),
        Some(name) => Err(refusal("attachments", replies::ATTACHMENT_NOT_PERMITTED, format!("attachment {name:?}"))),
    }
}

/// Compares the last extension as operating systems read it: characters at the end that are neither letter nor digit are ignored;
/// a NUL or a colon ends the name (`a.exe::$DATA`).
fn denies(denied: &[String], name: &str) -> bool {
    let name = name.split('\0').next().unwrap_or_default().replace(['\u{ff0e}', '\u{2024}'], ".");
    let ends = [name.as_str(), name.split(':').next().unwrap_or_default()];
    ends.into_iter().any(|name| {
        let name = name.trim_end_matches(|c: char| !c.is_alphanumeric());
        name.rsplit_once('.').is_some_and(|(_, extension)| denied.contains(&extension.to_lowercase()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Content;
    use bytes::Bytes;

    fn verdict(name: &str) -> Result<(), String> {
        let text = format!(
            "From: a@b.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
             Content-Disposition: attachment; filename={name}\r\n\r\nMZ\r\n--b--\r\n"
        );
        let content = Content::parse(Bytes::from(text), &Default::default(), Default::default()).unwrap();
        judge(content.structure(), &["exe".to_owned(), "js".to_owned()]).map_err(|reason| reason.detail)
    }

    #[test]
    fn denied_types_are_found_in_every_spelling() {
        for name in [
            "a.exe",
            "A.EXE",
            "\"invoice.pdf.exe\"",
            "\"a.exe. \"",
            "\"a.exe...\"",
            "'a.exe'",
            "\"a.exe\u{200b}\"",
            "\"a.exe::$DATA\"",
            "\"a\u{ff0e}exe\"",
            "\"a.exe\t\"",
            "\"a.txt\"; filename=run.js",
            "\"\"; filename*=utf-8''a%2Eexe",
            "\"\"; filename*=utf-8''a.exe%00.txt",
            "\"=?utf-8?q?a=2Eexe?=\"",
        ] {
            assert!(verdict(name).is_err(), "{name}");
        }
    }

    #[test]
    fn other_attachments_pass() {
        for name in ["\"a.pdf\"", "exe", "\"exe.pdf\"", "\"a exe\"", "\"\""] {
            assert_eq!(verdict(name), Ok(()), "{name}");
        }
    }
}
