//! SigV4A: the signature for more than one region, which multi-region endpoints require.
//!
//! ECDSA on P-256 over SHA-256, with a key that both sides derive from the secret.
//!
//! IAM User Guide, "AWS Signature Version 4 for API requests"; NIST SP 800-108, the KDF in counter mode.

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::{hmac, signature};

pub(super) const ALGORITHM: &str = "AWS4-ECDSA-P256-SHA256";

/// Whether the signature over the text was made with the secret.
pub(super) fn is_signed(access_key_id: &str, secret: &str, text: &[u8], by: &[u8]) -> bool {
    let key = private_key(access_key_id, secret).and_then(|key| {
        let key = PrivateKey::from_private_key(&ECDH_P256, &key).ok()?;
        key.compute_public_key().ok()
    });
    key.is_some_and(|key| {
        signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, key).verify(text, by).is_ok()
    })
}

/// A number of 256 bits.
type Scalar = [u8; 32];

/// The order of P-256's group less two (FIPS 186-4, D.1.2.3): the derived number may not be larger, and one is added to
/// it.
const DERIVED_MAX: Scalar = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x4f,
];

fn private_key(access_key_id: &str, secret: &str) -> Option<Scalar> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4A{secret}").as_bytes());
    let derived = (1..=254).map(|counter: u8| {
        let mut input = hmac::Context::with_key(&key);
        // The round and the length in bits that the KDF itself has, around label and context.
        for part in [
            &1_u32.to_be_bytes(),
            ALGORITHM.as_bytes(),
            &[0],
            access_key_id.as_bytes(),
            &[counter],
            &256_u32.to_be_bytes(),
        ] {
            input.update(part);
        }
        Scalar::try_from(input.sign().as_ref()).ok()
    });
    let mut scalar = derived.flatten().find(|derived| *derived <= DERIVED_MAX)?;
    for octet in scalar.iter_mut().rev() {
        *octet = octet.wrapping_add(1);
        if *octet != 0 {
            break;
        }
    }
    Some(scalar)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS's test suite for SigV4A has this public key for this pair.
    #[test]
    fn derives_the_key_of_the_test_suite() {
        let key = private_key("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY").unwrap();
        let key = PrivateKey::from_private_key(&ECDH_P256, &key).unwrap().compute_public_key().unwrap();
        let text: String = key.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(
            text,
            "04b6618f6a65740a99e650b33b6b4b5bd0d43b176d721a3edfea7e7d2d56d936b1\
             865ed22a7eadc9c5cb9d2cbaca1b3699139fedc5043dc6661864218330c8e518"
        );
    }

    #[test]
    fn nothing_signs_nothing() {
        assert!(!is_signed("AKIDEXAMPLE", "secret", b"text", b""));
        assert!(!is_signed("AKIDEXAMPLE", "secret", b"text", &[0x30; 70]));
    }
}
