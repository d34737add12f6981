//! A session as a store keeps it.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::clock::{from_unix_millis, to_unix_millis};

pub(crate) mod payload;

/// The whole row of a session.
///
/// A store keeps every field and understands none but the times. One with columns keeps a field in each;
/// one with plain values keeps [`encode`](Self::encode)'s bytes. A clone shares the payload.
///
/// The fields are public and complete on purpose: a new one breaks every store, as it must, since a store
/// that passed over it would lose it.
///
/// ```
/// use cloakroom::clock::from_unix_millis;
/// use cloakroom::store::{Record, Version};
///
/// let record = Record {
///     version: Version::from_u64(7),
///     created_at: from_unix_millis(1_700_000_000_000),
///     expires_at: from_unix_millis(1_700_000_060_000),
///     user_id: Some("alice".into()),
///     payload: b"opaque"[..].into(),
/// };
/// assert_eq!(Record::decode(&record.encode()).unwrap(), record);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Changes with every write, except by a touch.
    pub version: Version,
    /// When the session was created, to the millisecond, UTC.
    pub created_at: OffsetDateTime,
    /// From when on the session is dead, to the millisecond, UTC: the earlier one of its idle and its
    /// absolute deadline.
    pub expires_at: OffsetDateTime,
    /// Who is logged in, if anybody is. At most 255 bytes.
    pub user_id: Option<Arc<str>>,
    /// Opaque to a store. Holds the digest of the session's secret, its timeouts, and its data.
    pub payload: Arc<[u8]>,
}

impl Record {
    /// The first byte of an encoded record.
    const FORMAT: u8 = 1;

    /// Bytes of an encoded record before the user id: format, version, created, expires, length of the
    /// user id.
    const HEADER: usize = 1 + 8 + 8 + 8 + 2;

    /// In place of a user id's length: nobody is logged in.
    const NO_USER: u16 = u16::MAX;

    /// The record as bytes, for stores whose values have no columns.
    ///
    /// The version is at bytes 1 to 8, and the expiry at bytes 17 to 24, both big-endian.
    pub fn encode(&self) -> Vec<u8> {
        let user_id = self.user_id.as_deref().unwrap_or_default();
        let mut bytes = Vec::with_capacity(Self::HEADER + user_id.len() + self.payload.len());
        bytes.push(Self::FORMAT);
        let numbers = [
            self.version.0,
            to_unix_millis(self.created_at) as u64,
            to_unix_millis(self.expires_at) as u64,
        ];
        bytes.extend_from_slice(numbers.map(u64::to_be_bytes).as_flattened());
        // User ids are at most 255 bytes: a login refuses longer ones.
        let user_id_length = self
            .user_id
            .as_ref()
            .map_or(Self::NO_USER, |_| user_id.len() as u16);
        bytes.extend_from_slice(&user_id_length.to_be_bytes());
        bytes.extend_from_slice(user_id.as_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The record of [`encode`](Self::encode)'s bytes.
    ///
    /// # Errors
    ///
    /// If the bytes are of a newer format, or are not a record at all. It converts into a
    /// [`StoreError`](crate::store::StoreError) with `?`.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordDecodeError> {
        let mut reader = Reader(bytes);
        reader.format(Self::FORMAT)?;
        let version = Version(u64::from_be_bytes(reader.array()?));
        let created_at = from_unix_millis(reader.i64()?);
        let expires_at = from_unix_millis(reader.i64()?);
        let user_id = match u16::from_be_bytes(reader.array()?) {
            Self::NO_USER => None,
            length => Some(reader.text(usize::from(length))?.into()),
        };
        Ok(Self {
            version,
            created_at,
            expires_at,
            user_id,
            payload: reader.0.into(),
        })
    }
}

/// Says nothing of the user and the data, so that a record can be logged.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("version", &self.version)
            .field("created_at", &self.created_at)
            .field("expires_at", &self.expires_at)
            .field("has_user", &self.user_id.is_some())
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

/// Tells one write of a record from every other: a random 64-bit number, new with each write.
///
/// It is no counter. A write that is retried after its answer was lost recognises itself by it, and after
/// a failover that lost writes, a stale writer cannot match by accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of this number, as a store finds it in a column.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The number of this version. It uses all 64 bits: a signed column stores it bit for bit
    /// (`as i64` and back).
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// A new version.
    ///
    /// It guards against accidents and not against attackers, so the thread's generator will do.
    pub(crate) fn generate() -> Self {
        Self(rand::random())
    }
}

/// Bytes that are not a record of a format this version of the crate can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordDecodeError(Problem);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    NewerFormat(u8),
    Malformed(&'static str),
}

impl RecordDecodeError {
    pub(crate) const fn malformed(what: &'static str) -> Self {
        Self(Problem::Malformed(what))
    }

    /// Whether a newer version of the crate wrote it: then nothing is broken, and this node must not act
    /// as if there were no session.
    pub fn is_newer_format(&self) -> bool {
        matches!(self.0, Problem::NewerFormat(_))
    }
}

impl fmt::Display for RecordDecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Problem::NewerFormat(format) => write!(
                f,
                "format {format} is newer than this version of cloakroom can read"
            ),
            Problem::Malformed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for RecordDecodeError {}

/// Takes a record's bytes apart from the front.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The format byte, at most `known`. Formats count up from 1; 0 is what a file of zeros has, which a
    /// crash can leave.
    pub(crate) fn format(&mut self, known: u8) -> Result<u8, RecordDecodeError> {
        match self.u8()? {
            0 => Err(RecordDecodeError::malformed("it has no format")),
            format if format > known => Err(RecordDecodeError(Problem::NewerFormat(format))),
            format => Ok(format),
        }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], RecordDecodeError> {
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(RecordDecodeError::malformed("it ends too early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordDecodeError> {
        let (array, rest) = self
            .0
            .split_first_chunk()
            .ok_or(RecordDecodeError::malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RecordDecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, RecordDecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, RecordDecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(crate) fn text(&mut self, length: usize) -> Result<&'a str, RecordDecodeError> {
        as_text(self.bytes(length)?)
    }
}

fn as_text(bytes: &[u8]) -> Result<&str, RecordDecodeError> {
    std::str::from_utf8(bytes)
        .map_err(|_| RecordDecodeError::malformed("a text in it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            version: Version(u64::MAX - 1),
            created_at: from_unix_millis(1_700_000_000_001),
            expires_at: from_unix_millis(1_700_000_000_999),
            user_id: Some("alice".into()),
            payload: b"payload"[..].into(),
        }
    }

    #[test]
    fn a_record_survives_encoding() {
        for user_id in [None, Some("".into()), Some("ü".repeat(100).into())] {
            let record = Record {
                user_id,
                ..record()
            };
            assert_eq!(Record::decode(&record.encode()).unwrap(), record);
        }
    }

    #[test]
    fn version_and_expiry_stand_where_the_docs_say() {
        let bytes = record().encode();
        assert_eq!(bytes[1..9], (u64::MAX - 1).to_be_bytes());
        assert_eq!(bytes[17..25], 1_700_000_000_999_i64.to_be_bytes());
    }

    #[test]
    fn a_header_cut_short_is_an_error_at_every_length() {
        let bytes = record().encode();
        for length in 0..Record::HEADER + "alice".len() {
            let error = Record::decode(&bytes[..length]).unwrap_err();
            assert!(!error.is_newer_format(), "{length}");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_garbage() {
        let mut bytes = record().encode();
        bytes[0] = 2;
        assert!(Record::decode(&bytes).unwrap_err().is_newer_format());
        bytes[0] = 0;
        assert!(!Record::decode(&bytes).unwrap_err().is_newer_format());
    }

    #[test]
    fn debug_shows_neither_user_nor_data() {
        let text = format!("{:?}", record());
        assert!(!text.contains("alice") && !text.contains("payload\""));
        assert!(text.contains("payload_bytes: 7"), "{text}");
    }
}
