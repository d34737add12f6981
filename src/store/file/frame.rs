//! The frame around what stands in a file, which tells a whole file from a torn one.
//!
//! | Bytes | |
//! |---|---|
//! | 0 to 3 | what it is: `coat` for a record, `list` for a user's list, `mark` for everyone's mark |
//! | 4 | the format of what follows the checksum |
//! | 5 to 12 | the first eight bytes of the SHA-256 of the format byte and of all that follows |
//! | 13 to the end | the content: of a record, [`Record::encode`]'s bytes |
//!
//! The first thirteen bytes are the same in every format to come. So a format byte that was damaged is
//! told from one that a newer version of the crate wrote.

use sha2::{Digest, Sha256};

use crate::record::{Reader, Record, RecordDecodeError};

/// What a file is, by its first bytes.
pub(super) type Magic = [u8; 4];

const RECORD: Magic = *b"coat";
const FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 8;

/// The content of this record's file.
pub(super) fn encode(record: &Record) -> Vec<u8> {
    wrap(RECORD, &record.encode())
}

/// The record of a file's content.
///
/// # Errors
///
/// If the file is torn, empty, damaged, of a newer format, or not of this store at all.
pub(super) fn decode(bytes: &[u8]) -> Result<Record, RecordDecodeError> {
    Record::decode(unwrap(RECORD, bytes)?)
}

/// Puts the frame around a body.
pub(super) fn wrap(magic: Magic, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(magic.len() + 1 + CHECKSUM_BYTES + body.len());
    bytes.extend(magic);
    bytes.push(FORMAT);
    bytes.extend(checksum(FORMAT, body));
    bytes.extend(body);
    bytes
}

/// The body in a frame.
///
/// # Errors
///
/// As [`decode`].
pub(super) fn unwrap(magic: Magic, bytes: &[u8]) -> Result<&[u8], RecordDecodeError> {
    let mut reader = Reader(bytes);
    if reader.array()? != magic {
        return Err(RecordDecodeError::malformed("it is no file of this kind"));
    }
    let format = reader.u8()?;
    if reader.array()? != checksum(format, reader.0) {
        return Err(RecordDecodeError::malformed(
            "its checksum is wrong: it is torn or damaged",
        ));
    }
    Reader(&[format]).format(FORMAT)?;
    Ok(reader.0)
}

/// Guards against accidents, not against attackers: who can write the file can write the checksum.
fn checksum(format: u8, body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new().chain_update([format]).chain_update(body);
    let digest: [u8; 32] = digest.finalize().into();
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_unix_millis;
    use crate::record::Version;

    fn record() -> Record {
        Record {
            version: Version::from_u64(7),
            created_at: from_unix_millis(1_700_000_000_001),
            expires_at: from_unix_millis(1_700_000_060_002),
            user_id: Some("alice".into()),
            payload: b"payload"[..].into(),
        }
    }

    fn assert_damaged(bytes: &[u8], what: &str) {
        let error = decode(bytes).expect_err(what);
        assert!(!error.is_newer_format(), "{what}: {error}");
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        assert_eq!(decode(&encode(&record())).unwrap(), record());
    }

    #[test]
    fn a_file_cut_short_anywhere_is_no_record() {
        let bytes = encode(&record());
        for length in 0..bytes.len() {
            assert_damaged(&bytes[..length], &format!("cut to {length}"));
        }
    }

    #[test]
    fn a_file_with_one_bit_flipped_anywhere_is_no_record() {
        let bytes = encode(&record());
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_damaged(&bytes, &format!("bit {bit}"));
        }
    }

    #[test]
    fn a_file_whose_tail_is_zeros_is_no_record() {
        let bytes = encode(&record());
        for from in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[from..].fill(0);
            assert_damaged(&bytes, &format!("zeros from {from}"));
        }
    }

    #[test]
    fn a_file_with_bytes_behind_its_record_is_no_record() {
        let mut bytes = encode(&record());
        bytes.push(0);
        assert_damaged(&bytes, "one byte more");
    }

    #[test]
    fn a_newer_frame_and_a_newer_record_are_known_as_newer() {
        let body = record().encode();
        let newer_frame = [
            RECORD.as_slice(),
            &[FORMAT + 1],
            &checksum(FORMAT + 1, &body),
            &body,
        ]
        .concat();
        assert!(decode(&newer_frame).unwrap_err().is_newer_format());

        let mut body = body;
        body[0] += 1;
        let newer_record = [
            RECORD.as_slice(),
            &[FORMAT],
            &checksum(FORMAT, &body),
            &body,
        ]
        .concat();
        assert!(decode(&newer_record).unwrap_err().is_newer_format());
    }
}
