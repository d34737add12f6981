//! The way in for the fuzz targets: private parsers, each held to what must be true of any input.
//!
//! No public API: this module exists under `--cfg fuzzing`, which the builds of `fuzz/` set, and in tests, which run the
//! seeds.
#![allow(missing_docs, clippy::unwrap_used)]

use crate::clock::{from_unix_millis, to_unix_millis};
use crate::cookie::CookieLimits;
use crate::cookie::parse::{self, reference};
use crate::id::{Handle, SecretDigest, SessionId};
use crate::login::Login;
use crate::record::Record;
use crate::record::payload::{Entries, Header, entry_size};
use crate::sessions::user_session::UserSession;
use crate::settings::Rules;
use crate::state::plan::{LoginPlan, Plan, Write, plan, plan_login};
use crate::state::{Live, Standing, State, Verdict, judge};
use crate::timeouts::Timeouts;

/// The parser finds what the slow reference finds. Two bytes are the limits, one chooses the name, and each
/// line of the rest is a `Cookie` line.
pub fn cookie_header(input: &[u8]) {
    let [max_bytes, max_pairs, flags, text @ ..] = input else {
        return;
    };
    let limits = match flags & 4 {
        0 => CookieLimits::default(),
        _ => CookieLimits {
            max_bytes: usize::from(*max_bytes),
            max_pairs: usize::from(*max_pairs),
        },
    };
    let host_locked = flags & 1 != 0;
    let name: &[u8] = if flags & 2 == 0 {
        b"N"
    } else {
        b"__Host-Http-id"
    };
    let lines: Vec<Vec<u8>> = text
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let found = parse::find(name, host_locked, limits, lines.iter().map(Vec::as_slice));
    assert_eq!(
        reference::seen(found),
        reference::find(name, host_locked, limits, &lines)
    );
    for line in &lines {
        let expected = reference::name_and_value(&reference::pairs(line)[0]).map(|(name, _)| name);
        assert_eq!(parse::set_cookie_name(line), expected.as_deref());
    }
}

/// An id is exactly what a slow decoder takes for one, has one spelling, and shows nothing of itself.
pub fn session_id(input: &[u8]) {
    let id = SessionId::parse(input);
    let expected = slow_base64url(input).filter(|bytes| bytes.len() == 36);
    assert_eq!(
        id.as_ref().map(|id| id.handle),
        expected
            .as_ref()
            .map(|bytes| Handle::from_bytes(bytes[..16].try_into().unwrap()))
    );
    if let (Some(id), Some(bytes)) = (id, expected) {
        assert_eq!(id.encode(), input);
        let secret: String = bytes[16..]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let shown = format!("{id:?}");
        assert!(!shown.contains(&secret) && shown.contains("Secret(redacted)"));
    }
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(handle) = text.parse::<Handle>()
    {
        assert_eq!(handle.to_string(), text);
    }
}

/// Base64url without padding, bit by bit; `None` for what is not canonical.
fn slow_base64url(text: &[u8]) -> Option<Vec<u8>> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = Vec::new();
    for &char in text {
        let value = ALPHABET.bytes().position(|candidate| candidate == char)?;
        bits.extend((0..6).rev().map(|bit| value >> bit & 1 == 1));
    }
    let (bytes, rest) = bits.split_at(bits.len() / 8 * 8);
    let byte = |bits: &[bool]| bits.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
    (rest.len() < 6 && !rest.contains(&true)).then(|| bytes.chunks(8).map(byte).collect())
}

/// What decodes as a record is one, and encodes to the same bytes if its times can be represented.
pub fn record(input: &[u8]) {
    let Ok(record) = Record::decode(input) else {
        return;
    };
    let bytes = record.encode();
    assert_eq!(Record::decode(&bytes).unwrap(), record);
    let time = |at: usize| i64::from_be_bytes(input[at..at + 8].try_into().unwrap());
    if [time(9), time(17)]
        .iter()
        .all(|&time| to_unix_millis(from_unix_millis(time)) == time)
    {
        assert_eq!(bytes, input);
    }
}

/// Any bytes that a store may return for a record: no panic, and what is written on top of them is a sound
/// record that outlives no deadline. Eight bytes are the time, one chooses the secret that is presented, and
/// the rest is the record.
pub fn stored_session(input: &[u8]) {
    let Some((now, [secret, bytes @ ..])) = input.split_first_chunk() else {
        return;
    };
    // The clock's range; a layer's clock cannot show another time.
    let now = to_unix_millis(from_unix_millis(i64::from_be_bytes(*now)));
    let Ok(record) = Record::decode(bytes) else {
        return;
    };
    let handle = Handle::from_bytes([7; 16]);
    let Ok((header, start)) = Header::decode(&record.payload) else {
        return;
    };
    assert_header_survives(&header);
    UserSession::new(handle, &record, &header, false);

    let presented = match usize::from(*secret) {
        0 => SecretDigest::from_bytes([9; 32]),
        index => match header.retired.get(index - 1) {
            Some(retired) => retired.digest,
            None => header.secret,
        },
    };
    let id = || SessionId::parse(&[b'A'; 48]).unwrap();
    let rules = Rules {
        timeouts: Timeouts::AAL2,
        touch_every_read: false,
        renew_after: Some(60_000),
        retired_grace: 10_000,
        max_size: 64 * 1024,
    };
    let expired = to_unix_millis(record.expires_at) <= now;
    let Ok(verdict) = judge(
        &id(),
        presented,
        header.carrier,
        record.clone(),
        now,
        &rules,
    ) else {
        assert!(Entries::new(&record.payload[start..]).any(|entry| entry.is_err()));
        return;
    };
    let Verdict::Live(live, loaded) = verdict else {
        return;
    };
    assert!(!expired && live.is_current == (presented == header.secret));
    for change in [|_: &mut State| {}, write, clear, renew] {
        let standing = Standing::Live(live.clone());
        let mut state = State::new(standing, loaded.clone(), &rules);
        change(&mut state);
        let job = state.job();
        let planned = plan(&state.standing, &job, now, &rules, || Ok(id())).unwrap();
        if let Plan::Create(write) | Plan::Update { write, .. } = planned {
            assert_sound(&write, now);
        }
        let login = Login::new("alice").label("a device");
        match plan_login(&state.standing, &job, &login, now, &rules, id()) {
            LoginPlan::Update(write) | LoginPlan::Create(write) => assert_sound(&write, now),
            LoginPlan::End => {}
        }
    }
}

fn write(state: &mut State) {
    // Refused if the session is too large.
    let _ = state.data.set("k", b"1"[..].into());
    state.data.remove("a");
}

fn clear(state: &mut State) {
    state.data.clear();
}

fn renew(state: &mut State) {
    state.wishes.renew = true;
    state.wishes.persistent_cookie = true;
}

fn assert_header_survives(header: &Header) {
    let bytes = header.encode(0);
    let (back, end) = Header::decode(&bytes).unwrap();
    assert_eq!(end, bytes.len());
    assert_eq!(format!("{back:?}"), format!("{header:?}"));
    assert_eq!(
        (back.secret, back.retired),
        (header.secret, header.retired.clone())
    );
}

fn assert_sound(write: &Write, now: i64) {
    let Live {
        record,
        header,
        presented,
        ..
    } = &*write.live;
    let decoded = Record::decode(&record.encode()).unwrap();
    assert_eq!(&decoded, record);
    let (back, start) = Header::decode(&decoded.payload).unwrap();
    assert_eq!(format!("{back:?}"), format!("{header:?}"));
    assert!(
        back.secret == *presented
            || back
                .retired
                .iter()
                .any(|retired| retired.digest == *presented)
    );
    let entries: Result<Vec<_>, _> = Entries::new(&decoded.payload[start..]).collect();
    let size: usize = entries
        .unwrap()
        .iter()
        .map(|(key, value)| entry_size(key, value))
        .sum();
    assert_eq!(size, decoded.payload.len() - start);
    let latest = header.timeouts.expires_at(header.started_at, now);
    assert!(record.expires_at <= from_unix_millis(latest));
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_seed_holds() {
        type Target = fn(&[u8]);
        let targets: [(&str, Target); 4] = [
            ("cookie_header", super::cookie_header),
            ("session_id", super::session_id),
            ("record", super::record),
            ("stored_session", super::stored_session),
        ];
        for (name, target) in targets {
            let folder = format!("{}/fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
            for seed in std::fs::read_dir(folder).unwrap() {
                target(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }
}
