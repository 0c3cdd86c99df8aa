//! All replies of gatepost, one row each.
//!
//! Operators search for a row and clients react to it, so a row keeps its code: policy refuses with 5yz, overload and
//! unknown errors defer with 4yz, and an error that only the operator can correct defers with 4.3.5. RFC 5321 §4.2.2,
//! RFC 3463, RFC 4954 §6, RFC 3207 §4. Amazon SES's own texts: "SMTP response codes" in its guide.

use super::reply::{EnhancedStatus, Reply};

macro_rules! table {
    ($( $(#[$doc:meta])+ $name:ident = $code:literal $(($class:literal, $subject:literal, $detail:literal))? $text:literal; )+) => {
        $( $(#[$doc])+ pub const $name: Reply = Reply::new($code, table!(@ $($class $subject $detail)?), $text); )+

        /// Every row with its name: for the test that code and status agree, and for the manual's table.
        pub const ALL: &[(&str, Reply)] = &[ $( (stringify!($name), $name), )+ ];
    };
    (@) => { None };
    (@ $class:literal $subject:literal $detail:literal) => { Some(EnhancedStatus($class, $subject, $detail)) };
}

table! {
    /// NOOP, RSET.
    OK = 250 (2, 0, 0) "Ok";
    /// MAIL.
    REVERSE_PATH_OK = 250 (2, 1, 0) "Ok";
    /// RCPT.
    FORWARD_PATH_OK = 250 (2, 1, 5) "Ok";
    /// A BDAT chunk that is not the last.
    CHUNK_OK = 250 (2, 0, 0) "Chunk received";
    /// The message was accepted by the provider; the text quotes its message id.
    ACCEPTED = 250 (2, 0, 0) "Ok";
    /// DATA.
    SEND_CONTENT = 354 "End data with <CR><LF>.<CR><LF>";
    /// QUIT.
    BYE = 221 (2, 0, 0) "Bye";
    /// STARTTLS: begin the handshake now.
    READY_FOR_TLS = 220 (2, 0, 0) "Ready to start TLS";
    /// AUTH succeeded.
    AUTHENTICATED = 235 (2, 7, 0) "Authentication successful";
    /// HELP.
    HELP = 214 (2, 0, 0) "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP STARTTLS AUTH QUIT; RFC 5321";
    /// VRFY: RFC 5321 §3.5.3 recommends an answer that does not reveal which users exist.
    CANNOT_VERIFY = 252 (2, 5, 2) "Cannot verify, but will accept the message if policy permits it";

    /// Shutting down.
    SHUTTING_DOWN = 421 (4, 3, 2) "Service shutting down, try again";
    /// Too many connections in total.
    TOO_MANY_CONNECTIONS = 421 (4, 3, 2) "Too many connections, try again later";
    /// Too many connections from this client.
    TOO_MANY_CONNECTIONS_FROM_CLIENT = 421 (4, 7, 0) "Too many connections from your address";
    /// Too many connections of this application.
    TOO_MANY_CONNECTIONS_FROM_APP = 421 (4, 7, 0) "Too many connections of your application";
    /// The client sent no command for too long.
    IDLE_TOO_LONG = 421 (4, 4, 2) "Timeout waiting for data from client";
    /// The content arrived too slowly or stopped.
    CONTENT_TOO_SLOW = 421 (4, 4, 2) "Timeout waiting for message content";
    /// The session has reached its time limit.
    SESSION_TOO_LONG = 421 (4, 4, 2) "Session time limit reached, connect again";
    /// Too many errors in one session.
    TOO_MANY_ERRORS = 421 (4, 7, 0) "Too many errors";
    /// Too many commands in one session.
    TOO_MANY_COMMANDS = 421 (4, 7, 0) "Too many commands in one session, connect again";
    /// The number of mail transactions that LIMITS MAILMAX advertised is reached.
    TOO_MANY_TRANSACTIONS = 421 (4, 5, 3) "Too many messages in one session, connect again";
    /// The client sends more and more input while its earlier commands are processed.
    TOO_FAR_AHEAD = 421 (4, 7, 0) "Too much sent ahead of our replies";
    /// A browser or another HTTP client connected to this port.
    NOT_HTTP = 421 (4, 7, 0) "This is an SMTP server";

    /// A TLS handshake on a port where the session begins in plain text.
    NOT_TLS = 421 (4, 7, 0) "This port does not begin with TLS";

    /// An unknown verb.
    UNKNOWN_COMMAND = 500 (5, 5, 1) "Command unrecognized";
    /// A line of an AUTH exchange longer than the limit (RFC 4954 §6).
    AUTH_LINE_TOO_LONG = 500 (5, 5, 6) "Authentication exchange line is too long";
    /// A line longer than the limit.
    LINE_TOO_LONG = 500 (5, 5, 2) "Line too long";
    /// A command line that does not end with CR LF.
    BARE_LINE_END = 500 (5, 5, 2) "Lines must end with CR LF";
    /// A known verb with invalid arguments.
    SYNTAX = 501 (5, 5, 4) "Syntax error in parameters or arguments";
    /// An address that cannot be read.
    BAD_REVERSE_PATH_SYNTAX = 501 (5, 1, 7) "Bad address syntax";
    /// An address that cannot be read.
    BAD_FORWARD_PATH_SYNTAX = 501 (5, 1, 3) "Bad address syntax";
    /// EXPN, and STARTTLS or AUTH or BDAT where the listener does not offer them.
    NOT_IMPLEMENTED = 502 (5, 5, 1) "Command not implemented";
    /// A command out of order.
    BAD_SEQUENCE = 503 (5, 5, 1) "Bad sequence of commands";
    /// AUTH a second time.
    ALREADY_AUTHENTICATED = 503 (5, 5, 1) "Already authenticated";
    /// DATA after BDAT in one transaction, or the reverse.
    MIXED_CONTENT_COMMANDS = 503 (5, 5, 1) "DATA and BDAT may not be mixed";
    /// DATA or BDAT after every recipient was refused.
    NO_VALID_RECIPIENTS = 503 (5, 5, 1) "No valid recipients";
    /// An AUTH mechanism that is not offered.
    UNKNOWN_MECHANISM = 504 (5, 5, 4) "Unrecognized authentication type";
    /// A MAIL or RCPT parameter of an extension that is not offered.
    UNKNOWN_PARAMETER = 555 (5, 5, 4) "Parameter not recognized or not implemented";

    /// AUTH is required before MAIL.
    AUTHENTICATION_REQUIRED = 530 (5, 7, 0) "Authentication required";
    /// TLS is required before any other command.
    TLS_REQUIRED = 530 (5, 7, 0) "Must issue a STARTTLS command first";
    /// AUTH in clear text where TLS is required.
    ENCRYPTION_REQUIRED = 538 (5, 7, 11) "Encryption required for requested authentication mechanism";
    /// Unknown user or wrong password: the same reply for both, so that names cannot be guessed.
    BAD_CREDENTIALS = 535 (5, 7, 8) "Authentication credentials invalid";
    /// `*` instead of a SASL response.
    AUTHENTICATION_CANCELLED = 501 (5, 7, 0) "Authentication cancelled";
    /// A SASL response that is not base64.
    BAD_BASE64 = 501 (5, 5, 2) "Cannot decode the authentication response";
    /// Too many failures with this name from this client; the text says when to try again.
    AUTHENTICATION_LOCKED = 454 (4, 7, 0) "Too many authentication failures, try again later";
    /// The user store is not available, or its queue is full.
    AUTHENTICATION_UNAVAILABLE = 454 (4, 7, 0) "Temporary authentication failure";

    /// The 51st recipient: one call of the provider carries 50.
    TOO_MANY_RECIPIENTS = 452 (4, 5, 3) "Too many recipients";
    /// A forward-path without a domain.
    RECIPIENT_WITHOUT_DOMAIN = 553 (5, 1, 3) "Recipient address needs a domain";
    /// A forward-path with an address literal: the provider would refuse it together with the whole call.
    RECIPIENT_LITERAL = 550 (5, 1, 2) "Address literals are not accepted as recipient domain";
    /// A local part outside ASCII: the provider has no SMTPUTF8.
    NON_ASCII_LOCAL_PART = 553 (5, 6, 7) "Non-ASCII local parts are not supported";

    /// `SIZE=`, or the content, is over the advertised size.
    MESSAGE_TOO_LARGE = 552 (5, 3, 4) "Message is too long";
    /// The memory budget and the disk allowance are both used up.
    INSUFFICIENT_STORAGE = 452 (4, 3, 1) "Insufficient system storage, try again later";
    /// The header section is over its octet or field limit.
    HEADER_TOO_LARGE = 552 (5, 3, 4) "Message header is too large";
    /// More Received fields than any path without a loop has.
    TOO_MANY_HOPS = 554 (5, 4, 6) "Too many hops, mail loop suspected";
    /// A lone CR or LF in content.
    BARE_LINE_END_IN_CONTENT = 550 (5, 5, 2) "Message lines must end with CR LF";
    /// A content line longer than RFC 5321 §4.5.3.1.6 allows and the provider takes.
    CONTENT_LINE_TOO_LONG = 554 (5, 6, 0) "Message line is longer than 998 octets";
    /// A header section that is invalid or has more than one interpretation.
    MALFORMED_HEADER = 554 (5, 6, 0) "Malformed message header";
    /// A field that is allowed once occurs twice: the provider refuses such a message.
    DUPLICATE_FIELD = 554 (5, 6, 0) "Duplicate header field";
    /// The MIME parts of the message are over a limit (`[mime]`); the text says which.
    MIME_OVER_LIMIT = 554 (5, 6, 0) "MIME structure is over a limit";
    /// NUL in content.
    NUL_IN_CONTENT = 554 (5, 6, 0) "Message contains NUL";

    /// The client's network, or the client, matches nothing that may send.
    SENDER_NOT_PERMITTED = 550 (5, 7, 1) "Sending is not permitted for this client";
    /// The reverse-path is not one that this client may use.
    REVERSE_PATH_NOT_PERMITTED = 550 (5, 7, 1) "Envelope sender not permitted";
    /// The null reverse-path is not permitted to this client.
    NULL_REVERSE_PATH_NOT_PERMITTED = 550 (5, 7, 1) "Null envelope sender not permitted";
    /// The author (From field) is not one that this client may use.
    AUTHOR_NOT_PERMITTED = 550 (5, 7, 1) "From address not permitted";
    /// The Sender field is not one that this client may use.
    SENDER_FIELD_NOT_PERMITTED = 550 (5, 7, 1) "Sender address not permitted";
    /// No From field.
    AUTHOR_MISSING = 550 (5, 7, 1) "Message has no From field";
    /// More than one From field.
    AUTHOR_REPEATED = 550 (5, 7, 1) "Message has more than one From field";
    /// A From or Sender field that is invalid or has more than one interpretation. The text says which field, and why.
    AUTHOR_AMBIGUOUS = 550 (5, 7, 1) "From or Sender field cannot be read";
    /// Raw 8-bit or ESC octets in an address field.
    AUTHOR_NOT_ASCII = 550 (5, 7, 1) "From or Sender field contains raw 8-bit or control octets; encode them (RFC 2047)";
    /// To, Cc or Reply-To with an address that the provider cannot parse: it would refuse the message. The text says
    /// which.
    ADDRESS_FIELD_UNREADABLE = 554 (5, 6, 0) "Address field cannot be read";
    /// A recipient that this client may not write to.
    RECIPIENT_NOT_PERMITTED = 550 (5, 7, 1) "Recipient not permitted";
    /// An attachment of a type that is refused.
    ATTACHMENT_NOT_PERMITTED = 550 (5, 7, 1) "Attachment type not permitted";
    /// Date or Message-ID is missing, and the configuration requires it.
    FIELD_MISSING = 550 (5, 6, 0) "Message lacks a required header field";
    /// An IAM policy document does not allow the message.
    NOT_ALLOWED_BY_DOCUMENT = 550 (5, 7, 1) "Sending is not permitted by policy";
    /// A rate limit is reached; the text says when to try again.
    RATE_LIMITED = 451 (4, 7, 1) "Rate limit reached, try again later";
    /// A rate limit is reached, and the limit is configured to reject.
    RATE_LIMIT_EXCEEDED = 550 (5, 7, 1) "Rate limit exceeded";
    /// Policy could not decide.
    LOCAL_ERROR = 451 (4, 3, 0) "Local error, try again later";

    /// The account's send rate is used up.
    THROTTLED = 454 (4, 7, 0) "Throttling failure: maximum sending rate exceeded";
    /// The account's 24-hour quota is used up.
    DAILY_QUOTA = 454 (4, 7, 0) "Throttling failure: daily message quota exceeded";
    /// The provider refuses this message; another of the same kind would be refused too.
    REFUSED_BY_PROVIDER = 554 (5, 7, 1) "Message rejected by the provider";
    /// An account without production access sends to verified identities only.
    SANDBOX = 554 (5, 7, 1) "Recipient refused: the SES account is in the sandbox";
    /// The provider reports that the request is malformed.
    BAD_REQUEST = 554 (5, 6, 0) "Message not acceptable to the provider";
    /// Only the operator can correct this: permission, credentials, paused sending, missing configuration set.
    OPERATOR_ERROR = 451 (4, 3, 5) "Sending is not possible until the operator of this relay corrects its configuration";
    /// The provider could not be reached, or failed.
    PROVIDER_UNAVAILABLE = 451 (4, 4, 1) "Provider not available, try again later";
    /// No answer in time: the message may have been sent.
    PROVIDER_NO_RESPONSE = 451 (4, 4, 2) "No answer from the provider in time, try again later";
    /// The deadline of the message passed while it waited to be sent.
    DEADLINE = 451 (4, 3, 2) "Too busy to hand the message on in time, try again later";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_digits_of_code_and_status_are_equal_in_every_row() {
        for (name, reply) in ALL {
            if let Some(EnhancedStatus(class, ..)) = reply.status() {
                assert_eq!(u16::from(class), reply.code() / 100, "{name}");
            } else {
                assert_eq!(reply.code(), 354, "{name}: only 354 has no enhanced status");
            }
            assert!(reply.to_string().len() < 200, "{name}");
        }
    }
}
