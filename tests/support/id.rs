//! Ids as an attacker would look at them: from outside of the crate.

use cloakroom::store::Handle;

/// The name of the layer's cookie, by default.
pub(crate) const COOKIE: &str = "__Host-Http-id";

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A well-formed id that no server issued.
pub(crate) fn forged(number: u64) -> String {
    format!("{number:048}")
}

/// The handle in a cookie's value.
pub(crate) fn handle_of(id: &str) -> Handle {
    Handle::from_bytes(bytes_of(id)[..16].try_into().unwrap())
}

/// The secret in a cookie's value.
pub(crate) fn secret_of(id: &str) -> Vec<u8> {
    bytes_of(id)[16..].to_vec()
}

fn bytes_of(id: &str) -> Vec<u8> {
    assert_eq!(id.len(), 48);
    let digits: Vec<_> = id
        .bytes()
        .map(|byte| ALPHABET.iter().position(|&other| other == byte).unwrap())
        .collect();
    let groups = digits.chunks(4).flat_map(|group| {
        let bits = group.iter().fold(0, |bits, digit| bits << 6 | digit);
        [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8]
    });
    groups.collect()
}
