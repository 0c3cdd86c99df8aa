//! The syntax of account ids, regions and endpoint ids.

/// Twelve digits.
pub(in crate::iam) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|octet| octet.is_ascii_digit())
}

/// `us-east-1`, `us-gov-west-1`, `eusc-de-east-1`: letters, letters, a number.
pub(in crate::iam) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let letters = |part: &&str| !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_lowercase());
    let Some((number, words)) = parts.split_last() else { return false };
    (2..=3).contains(&words.len())
        && words.iter().all(letters)
        && matches!(words[0].len(), 2..=4)
        && number.len() == 1
        && number.bytes().all(|octet| octet.is_ascii_digit())
}

/// `vpce-` and 8 or 17 hexadecimal digits.
pub(in crate::iam) fn is_endpoint(text: &str) -> bool {
    text.strip_prefix("vpce-")
        .is_some_and(|id| matches!(id.len(), 8 | 17) && id.bytes().all(|octet| octet.is_ascii_hexdigit()))
}
