//! Parses address fields of a message as SES does: lists of addresses and groups, with comments.
//!
//! SES refuses a message whose To, Cc or Reply-To it cannot parse, whatever the envelope is. The error texts are those
//! of SES in captures. As everything in the emulator, this parser shares no code with the relay. RFC 5322 §3.4;
//! comments are removed in all positions.

use super::address::Mailbox;
use super::refusal::Refusal;

/// Every address of a field, those in groups included. A group may be empty: `undisclosed-recipients:;`.
pub(super) fn read(value: &str) -> Result<Vec<Mailbox>, Refusal> {
    let mut list = List::default();
    for letter in value.chars() {
        list.take(letter)?;
    }
    list.end()
}

#[derive(Debug, Default)]
struct List {
    within: Within,
    escaped: bool,
    in_group: bool,
    in_literal: bool,
    text: String,
    mailboxes: Vec<Mailbox>,
}

/// The context of the next character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Text,
    Quotes,
    Angle,
    /// A comment, and how deep.
    Comment(usize),
}

impl List {
    fn take(&mut self, letter: char) -> Result<(), Refusal> {
        let escaped = std::mem::take(&mut self.escaped);
        if letter == '\\' && !escaped {
            self.escaped = true;
        }
        match (self.within, letter) {
            (Within::Comment(depth), '(') if !escaped => self.within = Within::Comment(depth + 1),
            (Within::Comment(1), ')') if !escaped => self.within = Within::Text,
            (Within::Comment(depth), ')') if !escaped => self.within = Within::Comment(depth - 1),
            (Within::Comment(_), _) => {}
            (Within::Quotes, '"') if !escaped => self.push(letter, Within::Text),
            (Within::Angle, '>') => self.push(letter, Within::Text),
            (Within::Quotes | Within::Angle, _) => self.text.push(letter),
            (Within::Text, '[' | ']') => {
                self.in_literal = letter == '[';
                self.text.push(letter);
            }
            (Within::Text, _) if self.in_literal => self.text.push(letter),
            (Within::Text, '(') => self.within = Within::Comment(1),
            (Within::Text, '"') => self.push(letter, Within::Quotes),
            // A second one could be hidden behind the first.
            (Within::Text, '<') if self.text.trim_end().ends_with('>') => {
                return Err(Refusal::bad_request("Illegal address"));
            }
            (Within::Text, '<') => self.push(letter, Within::Angle),
            (Within::Text, ',') => self.end_mailbox()?,
            (Within::Text, ':') if !self.in_group => {
                // The preceding text is the name of the group.
                self.text.clear();
                self.in_group = true;
            }
            (Within::Text, ';') if self.in_group => {
                self.end_mailbox()?;
                self.in_group = false;
            }
            (Within::Text, ';') => return Err(Refusal::bad_request("Illegal semicolon, not in group")),
            (Within::Text, ')') => return Err(Refusal::bad_request("Missing '('")),
            (Within::Text, '>') => return Err(Refusal::bad_request("Missing '<'")),
            (Within::Text, _) => self.text.push(letter),
        }
        Ok(())
    }

    fn push(&mut self, letter: char, within: Within) {
        self.text.push(letter);
        self.within = within;
    }

    /// An empty list member is not an address.
    fn end_mailbox(&mut self) -> Result<(), Refusal> {
        let text = std::mem::take(&mut self.text);
        if !text.trim().is_empty() {
            self.mailboxes.push(Mailbox::parse(&text)?);
        }
        Ok(())
    }

    fn end(mut self) -> Result<Vec<Mailbox>, Refusal> {
        match self.within {
            Within::Quotes => return Err(Refusal::bad_request("Missing '\"'")),
            Within::Angle => return Err(Refusal::bad_request("Missing '>'")),
            Within::Comment(_) => return Err(Refusal::bad_request("Missing ')'")),
            Within::Text => self.end_mailbox()?,
        }
        Ok(self.mailboxes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_or_what_is_wrong_with_it_is_said() {
        for (value, want) in [
            ("", Ok("")),
            ("bob@b.example", Ok("bob@b.example")),
            ("Bob <bob@b.example>, eve@c.example", Ok("bob@b.example eve@c.example")),
            ("\"B., Bob (x)\" <bob@b.example>", Ok("bob@b.example")),
            ("app@example.com (Cron Daemon)", Ok("app@example.com")),
            ("(a (b) \\) c) app@example.com", Ok("app@example.com")),
            ("undisclosed-recipients:;", Ok("")),
            ("undisclosed-recipients: ;", Ok("")),
            (
                "Team: bob@b.example, Eve <eve@c.example>; ann@a.example",
                Ok("bob@b.example eve@c.example ann@a.example"),
            ),
            ("bob@b.example, , eve@c.example,", Ok("bob@b.example eve@c.example")),
            ("bob@[IPv6:2001:db8::1]", Ok("bob@[ipv6:2001:db8::1]")),
            ("J\u{fc}rgen <j@b.example>", Ok("j@b.example")),
            ("\"a b\"@b.example", Ok("\"a b\"@b.example")),
            ("root", Err("Missing final '@domain'")),
            ("Root <root>", Err("Missing final '@domain'")),
            ("<>", Err("Missing final '@domain'")),
            ("=?utf-8?q?bob=40b.example?=", Err("Missing final '@domain'")),
            ("bob@b.example; eve@c.example", Err("Illegal semicolon, not in group")),
            ("Team: bob@b.example; ;", Err("Illegal semicolon, not in group")),
            ("bob b@b.example", Err("Local address contains control or whitespace")),
            ("bob@b.example eve@c.example", Err("Local address contains control or whitespace")),
            ("j\u{fc}rgen@b.example", Err("Local address contains control or whitespace")),
            ("bob@b example", Err("Domain contains control or whitespace")),
            ("bob@b.example>", Err("Missing '<'")),
            ("<bob@b.example", Err("Missing '>'")),
            ("\"bob@b.example", Err("Missing '\"'")),
            ("bob@b.example (x", Err("Missing ')'")),
            ("<bob@b.example> <eve@c.example>", Err("Illegal address")),
        ] {
            let read = read(value).map_err(|refusal| refusal.message.into_owned());
            let read = read.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            assert_eq!(read, want.map(str::to_owned).map_err(str::to_owned), "{value:?}");
        }
    }
}
