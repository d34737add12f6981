//! What a record's payload holds, and how it is written.
//!
//! ```text
//! format      u8            1, or 2 for what 1 cannot say
//! digest      32 bytes      SHA-256 of the current secret
//! retired     u8, then each: digest 32 bytes, kind u8, since i64
//! started     i64           from when the absolute timeout counts
//! renewed     i64           when the current secret was issued
//! idle        i64           milliseconds; 0 is none
//! absolute    i64           milliseconds
//! login       i64           when the user was authenticated; i64::MIN is never
//! persistent  u8            whether the cookie outlives the browser
//! label       u8, text      what a login was labelled with; empty is nothing
//! carrier     u8            format 2: 0 for the cookie, 1 for the header; format 1: it is the cookie
//! csrf        32 bytes      format 2: the key of CSRF tokens; format 1: it is the digest
//! entries     to the end, each: key u32, text; value u32, JSON
//! ```
//!
//! Numbers are big-endian, times unix milliseconds. The entries come last and are framed, so that one value
//! is found and decoded without decoding the others.
//!
//! What format 1 can say is written in it, so that nodes which know no other read it in a rolling deploy.

use std::sync::Arc;
use std::time::Duration;

use super::{Reader, RecordDecodeError, as_text};
use crate::carrier::Carrier;
use crate::csrf::CsrfKey;
use crate::id::SecretDigest;
use crate::store::LoginProgress;
use crate::timeouts::{Timeouts, millis};

/// The format in which the carrier and the key are the usual ones, and the one that says which.
const USUAL: u8 = 1;
const FULL: u8 = 2;
const NEVER: i64 = i64::MIN;

/// How many retired secrets a session remembers.
pub(crate) const MAX_RETIRED: usize = 4;

/// All that a session is, apart from its data.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    /// Opens the session.
    pub(crate) secret: SecretDigest,
    /// Secrets that opened the session before, the latest first.
    pub(crate) retired: Vec<RetiredSecret>,
    /// From when the absolute timeout counts: the creation, or the last login.
    pub(crate) started_at: i64,
    /// When the current secret was issued.
    pub(crate) renewed_at: i64,
    pub(crate) timeouts: Timeouts,
    /// When the user who is logged in was authenticated; `None` for a user with a second factor to come.
    pub(crate) authenticated_at: Option<i64>,
    /// Whether the cookie outlives the browser.
    pub(crate) persistent_cookie: bool,
    /// What the login was labelled with.
    pub(crate) label: Option<Arc<str>>,
    /// What its ids travel in.
    pub(crate) carrier: Carrier,
    /// What its CSRF tokens are made of: new with each change of privilege.
    pub(crate) csrf: CsrfKey,
}

/// A secret that was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetiredSecret {
    pub(crate) digest: SecretDigest,
    pub(crate) retirement: Retirement,
}

/// Why a secret was replaced, which says what it is still good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retirement {
    /// By a change of privilege, at this time: dead at once.
    Privileged { at: i64 },
    /// On a schedule, and nobody has presented the new secret yet: still opens the session.
    Routine,
    /// On a schedule, and the new secret was first presented at this time: opens it for the grace period.
    Superseded { at: i64 },
}

impl Header {
    /// Until when the cookie is kept: `None` if it ends with the browser.
    pub(crate) fn persistent_until(&self) -> Option<i64> {
        self.persistent_cookie
            .then(|| self.timeouts.deadline(self.started_at))
    }

    /// How far the login of the record's user has come.
    pub(crate) fn progress(&self) -> LoginProgress {
        match self.authenticated_at {
            Some(_) => LoginProgress::Complete,
            None => LoginProgress::Pending,
        }
    }

    /// The bytes of this header, with room for `capacity` bytes of entries.
    pub(crate) fn encode(&self, capacity: usize) -> Vec<u8> {
        let format = self.format();
        let mut bytes = Vec::with_capacity(self.encoded_size(format) + capacity);
        bytes.push(format);
        bytes.extend_from_slice(self.secret.as_bytes());
        bytes.push(self.retired.len() as u8);
        for retired in &self.retired {
            let (kind, at) = match retired.retirement {
                Retirement::Privileged { at } => (0, at),
                Retirement::Routine => (1, NEVER),
                Retirement::Superseded { at } => (2, at),
            };
            bytes.extend_from_slice(retired.digest.as_bytes());
            bytes.push(kind);
            bytes.extend_from_slice(&at.to_be_bytes());
        }
        let idle = self.timeouts.idle().map_or(0, millis);
        let numbers = [
            self.started_at,
            self.renewed_at,
            idle,
            millis(self.timeouts.absolute()),
            self.authenticated_at.unwrap_or(NEVER),
        ];
        // Together, since each append looks whether there is room.
        bytes.extend_from_slice(numbers.map(i64::to_be_bytes).as_flattened());
        bytes.push(u8::from(self.persistent_cookie));
        let label = self.label.as_deref().unwrap_or_default();
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
        if format == FULL {
            bytes.push(u8::from(self.carrier == Carrier::Header));
            bytes.extend_from_slice(self.csrf.as_bytes());
        }
        bytes
    }

    /// The header at the front of a payload, and where its entries begin.
    pub(crate) fn decode(payload: &[u8]) -> Result<(Self, usize), RecordDecodeError> {
        let mut reader = Reader(payload);
        let format = reader.format(FULL)?;
        let secret = SecretDigest::from_bytes(reader.array()?);
        let mut retired = Vec::new();
        for _ in 0..reader.u8()? {
            retired.push(decode_retired(&mut reader)?);
        }
        let started_at = reader.i64()?;
        let renewed_at = reader.i64()?;
        let idle = reader.i64()?;
        let absolute = decode_duration(reader.i64()?)?;
        let timeouts = match idle {
            0 => Timeouts::without_idle(absolute),
            idle => Timeouts::new(decode_duration(idle)?, absolute),
        };
        let authenticated_at = Some(reader.i64()?).filter(|&at| at != NEVER);
        let persistent_cookie = reader.u8()? != 0;
        let label = match reader.u8()? {
            0 => None,
            length => Some(reader.text(usize::from(length))?.into()),
        };
        let (carrier, csrf) = match format {
            USUAL => (Carrier::Cookie, CsrfKey::of(&secret)),
            _ => (
                decode_carrier(reader.u8()?)?,
                CsrfKey::from_bytes(reader.array()?),
            ),
        };
        let header = Self {
            secret,
            retired,
            started_at,
            renewed_at,
            timeouts,
            authenticated_at,
            persistent_cookie,
            label,
            carrier,
            csrf,
        };
        Ok((header, payload.len() - reader.0.len()))
    }

    fn format(&self) -> u8 {
        match self.carrier == Carrier::Cookie && self.csrf == CsrfKey::of(&self.secret) {
            true => USUAL,
            false => FULL,
        }
    }

    fn encoded_size(&self, format: u8) -> usize {
        const RETIRED: usize = SecretDigest::BYTES + 1 + 8;
        let label = self.label.as_ref().map_or(0, |label| label.len());
        let full = match format {
            USUAL => 0,
            _ => 1 + CsrfKey::BYTES,
        };
        1 + SecretDigest::BYTES + 1 + self.retired.len() * RETIRED + 5 * 8 + 1 + 1 + label + full
    }
}

fn decode_retired(reader: &mut Reader<'_>) -> Result<RetiredSecret, RecordDecodeError> {
    let digest = SecretDigest::from_bytes(reader.array()?);
    let kind = reader.u8()?;
    let at = reader.i64()?;
    let retirement = match kind {
        0 => Retirement::Privileged { at },
        1 => Retirement::Routine,
        2 => Retirement::Superseded { at },
        _ => {
            return Err(RecordDecodeError::malformed(
                "a retired secret has no such kind",
            ));
        }
    };
    Ok(RetiredSecret { digest, retirement })
}

fn decode_carrier(carrier: u8) -> Result<Carrier, RecordDecodeError> {
    match carrier {
        0 => Ok(Carrier::Cookie),
        1 => Ok(Carrier::Header),
        _ => Err(RecordDecodeError::malformed("there is no such carrier")),
    }
}

fn decode_duration(millis: i64) -> Result<Duration, RecordDecodeError> {
    u64::try_from(millis)
        .map(Duration::from_millis)
        .map_err(|_| RecordDecodeError::malformed("a timeout in it is negative"))
}

/// Bytes that an entry takes up.
pub(crate) fn entry_size(key: &str, value: &[u8]) -> usize {
    4 + key.len() + 4 + value.len()
}

/// Appends an entry.
pub(crate) fn encode_entry(bytes: &mut Vec<u8>, key: &str, value: &[u8]) {
    // The size of a session is limited to far less than 4 GiB before anything is encoded.
    bytes.extend_from_slice(&(key.len() as u32).to_be_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
    bytes.extend_from_slice(value);
}

/// Goes through the entries of a payload, in the order in which they stand.
#[derive(Clone)]
pub(crate) struct Entries<'a>(Reader<'a>);

impl<'a> Entries<'a> {
    /// The entries of these bytes: the end of a payload, from where [`Header::decode`] said.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Reader(bytes))
    }

    /// The value of this key, in entries that are framed well. It compares bytes, and so reads no text.
    pub(crate) fn find(mut self, wanted: &str) -> Option<&'a [u8]> {
        while !self.0.is_empty() {
            let key = self.framed().ok()?;
            let value = self.framed().ok()?;
            if key == wanted.as_bytes() {
                return Some(value);
            }
        }
        None
    }

    fn framed(&mut self) -> Result<&'a [u8], RecordDecodeError> {
        let length = self.0.u32()? as usize;
        self.0.bytes(length)
    }

    fn decode_entry(&mut self) -> Result<(&'a str, &'a [u8]), RecordDecodeError> {
        let key = as_text(self.framed()?)?;
        Ok((key, self.framed()?))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(&'a str, &'a [u8]), RecordDecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self.decode_entry();
        if entry.is_err() {
            // What follows a broken entry cannot be found.
            self.0 = Reader(&[]);
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> SecretDigest {
        SecretDigest::from_bytes([byte; 32])
    }

    fn full() -> Header {
        Header {
            secret: digest(1),
            retired: vec![
                RetiredSecret {
                    digest: digest(2),
                    retirement: Retirement::Privileged { at: 5 },
                },
                RetiredSecret {
                    digest: digest(3),
                    retirement: Retirement::Routine,
                },
                RetiredSecret {
                    digest: digest(4),
                    retirement: Retirement::Superseded { at: 6 },
                },
            ],
            started_at: 1_700_000_000_000,
            renewed_at: 1_700_000_000_001,
            timeouts: Timeouts::AAL3,
            authenticated_at: Some(1_700_000_000_002),
            persistent_cookie: true,
            label: Some("Firefox on Linux".into()),
            carrier: Carrier::Header,
            csrf: CsrfKey::from_bytes([9; 32]),
        }
    }

    fn bare() -> Header {
        Header {
            retired: Vec::new(),
            timeouts: Timeouts::AAL1,
            authenticated_at: None,
            persistent_cookie: false,
            label: None,
            carrier: Carrier::Cookie,
            csrf: CsrfKey::of(&digest(1)),
            ..full()
        }
    }

    #[test]
    fn a_header_survives_encoding() {
        let by_header = Header {
            carrier: Carrier::Header,
            ..bare()
        };
        let with_key = Header {
            csrf: CsrfKey::from_bytes([9; 32]),
            ..bare()
        };
        for header in [full(), bare(), by_header, with_key] {
            let mut bytes = header.encode(0);
            assert_eq!(bytes.len(), header.encoded_size(header.format()));
            let length = bytes.len();
            encode_entry(&mut bytes, "k", b"1");
            let (back, entries) = Header::decode(&bytes).unwrap();
            assert_eq!(entries, length);
            assert_eq!(back.secret, header.secret);
            assert_eq!(back.retired, header.retired);
            assert_eq!(back.started_at, header.started_at);
            assert_eq!(back.renewed_at, header.renewed_at);
            assert_eq!(back.timeouts, header.timeouts);
            assert_eq!(back.authenticated_at, header.authenticated_at);
            assert_eq!(back.persistent_cookie, header.persistent_cookie);
            assert_eq!(back.label, header.label);
            assert_eq!(back.carrier, header.carrier);
            assert_eq!(back.csrf, header.csrf);
        }
    }

    #[test]
    fn a_header_cut_short_is_an_error_at_every_length() {
        let bytes = full().encode(0);
        for length in 0..bytes.len() {
            assert!(Header::decode(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_garbage() {
        let mut bytes = full().encode(0);
        bytes[0] = FULL + 1;
        assert!(Header::decode(&bytes).unwrap_err().is_newer_format());
    }

    #[test]
    fn what_the_first_format_can_say_is_written_in_it_to_the_byte() {
        let bytes = bare().encode(0);
        let expected = [
            &[1][..],
            &[1; 32],
            &[0],
            &1_700_000_000_000_i64.to_be_bytes(),
            &1_700_000_000_001_i64.to_be_bytes(),
            &[0; 8],
            &(30 * 24 * 60 * 60 * 1_000_i64).to_be_bytes(),
            &i64::MIN.to_be_bytes(),
            &[0, 0],
        ];
        assert_eq!(bytes[..], expected.concat());
    }

    #[test]
    fn an_unknown_carrier_is_an_error_and_not_the_cookie() {
        let mut bytes = full().encode(0);
        let carrier = bytes.len() - CsrfKey::BYTES - 1;
        bytes[carrier] = 2;
        let error = Header::decode(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "there is no such carrier");
    }

    #[test]
    fn entries_come_back_in_order() {
        let mut bytes = Vec::new();
        let entries: [(&str, &[u8]); 3] = [("a", b"1"), ("", b""), ("schlüssel", b"\"x\"")];
        for (key, value) in entries {
            encode_entry(&mut bytes, key, value);
        }
        let size: usize = entries
            .iter()
            .map(|(key, value)| entry_size(key, value))
            .sum();
        assert_eq!(bytes.len(), size);
        let back: Vec<_> = Entries::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(back, entries);
    }

    #[test]
    fn a_broken_entry_ends_the_entries() {
        let mut bytes = Vec::new();
        encode_entry(&mut bytes, "a", b"1");
        bytes.extend([0, 0, 0, 9, b'x']);
        let mut entries = Entries::new(&bytes);
        assert!(entries.next().unwrap().is_ok());
        assert!(entries.next().unwrap().is_err());
        assert!(entries.next().is_none());
    }
}
