//! What a session's CSRF tokens are made of.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::id::{SecretDigest, decode_base64url, encode_base64url, equal_in_constant_time};
use crate::random::{RandomSourceError, fill_random};

/// 192 bits, of which no guess comes true; twice of it is text without padding.
const TOKEN_BYTES: usize = 24;

/// Characters of a token as it is sent.
pub(super) const TOKEN_CHARS: usize = 64;

/// Bound to a session, and to its last login or `renew_id`. It opens nothing.
#[derive(Clone, Copy)]
pub(crate) struct CsrfKey([u8; 32]);

impl CsrfKey {
    pub(crate) const BYTES: usize = 32;

    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of a session whose secret was issued by its last change of privilege. So a record need not
    /// hold it, as long as it has that secret's digest.
    pub(crate) const fn of(digest: &SecretDigest) -> Self {
        Self(*digest.as_bytes())
    }

    /// A key for a session that does not exist yet.
    ///
    /// # Errors
    ///
    /// When the random source fails.
    pub(crate) fn generate() -> Result<Self, RandomSourceError> {
        let mut bytes = [0; Self::BYTES];
        fill_random(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The token, before it is masked. It tells nothing of the key.
    fn token(&self) -> [u8; TOKEN_BYTES] {
        let mut hash = Sha256::new();
        hash.update(b"cloakroom CSRF token");
        hash.update(self.0);
        let mut token = [0; TOKEN_BYTES];
        token.copy_from_slice(&hash.finalize()[..TOKEN_BYTES]);
        token
    }

    /// The token as it is sent: another text each time, so that no compressed page gives it away piece by
    /// piece (BREACH).
    pub(super) fn masked_token(&self) -> [u8; TOKEN_CHARS] {
        // It has to differ from one response to the next, and not to be secret: it is sent along.
        let mask: [u8; TOKEN_BYTES] = rand::random();
        let mut bytes = [0; 2 * TOKEN_BYTES];
        let (first, second) = bytes.split_at_mut(TOKEN_BYTES);
        first.copy_from_slice(&mask);
        second.copy_from_slice(&xor(self.token(), &mask));
        encode_base64url(&bytes)
    }

    /// Whether this is the token of this key, under whatever mask. Compared in constant time.
    pub(super) fn opens_to(&self, sent: &[u8]) -> bool {
        let Ok(sent) = <&[u8; TOKEN_CHARS]>::try_from(sent) else {
            return false;
        };
        let bytes: Option<[u8; 2 * TOKEN_BYTES]> = decode_base64url(sent);
        bytes.is_some_and(|bytes| {
            let (mask, masked) = bytes.split_at(TOKEN_BYTES);
            xor(self.token(), mask).ct_eq(masked).into()
        })
    }
}

fn xor(mut token: [u8; TOKEN_BYTES], mask: &[u8]) -> [u8; TOKEN_BYTES] {
    token
        .iter_mut()
        .zip(mask)
        .for_each(|(byte, mask)| *byte ^= mask);
    token
}

impl PartialEq for CsrfKey {
    fn eq(&self, other: &Self) -> bool {
        equal_in_constant_time(&self.0, &other.0)
    }
}

impl fmt::Debug for CsrfKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_another_text_each_time_and_always_the_same_token() {
        let key = CsrfKey::generate().unwrap();
        let tokens: Vec<_> = (0..100).map(|_| key.masked_token()).collect();
        for (number, token) in tokens.iter().enumerate() {
            assert!(key.opens_to(token));
            assert!(!tokens[..number].contains(token));
        }
    }

    #[test]
    fn no_half_of_a_token_repeats_itself() {
        let key = CsrfKey::generate().unwrap();
        let [one, other] = [key.masked_token(), key.masked_token()];
        assert_ne!(one[..32], other[..32]);
        assert_ne!(one[32..], other[32..]);
        // Nor does it with the mask that the sender chooses: the halves of two tokens do not fit together.
        let mixed = [&one[..32], &other[32..]].concat();
        assert!(!key.opens_to(&mixed));
    }

    #[test]
    fn every_other_text_is_refused() {
        let key = CsrfKey::from_bytes([7; 32]);
        let token = key.masked_token();
        for position in 0..TOKEN_CHARS {
            let mut changed = token;
            changed[position] = if token[position] == b'A' { b'B' } else { b'A' };
            assert!(!key.opens_to(&changed), "{position}");
            changed[position] = b'=';
            assert!(!key.opens_to(&changed), "{position}");
        }
        for length in 0..TOKEN_CHARS {
            assert!(!key.opens_to(&token[..length]));
        }
        assert!(!key.opens_to(&[&token[..], b"A"].concat()));
        assert!(!CsrfKey::from_bytes([8; 32]).opens_to(&token));
    }

    #[test]
    fn a_token_is_neither_the_key_nor_the_digest_that_the_store_holds() {
        let digest = SecretDigest::from_bytes([7; 32]);
        let key = CsrfKey::of(&digest);
        assert_ne!(key.token(), digest.as_bytes()[..TOKEN_BYTES]);
        assert_eq!(format!("{key:?}"), "CsrfKey(redacted)");
    }
}
