//! The clock by which sessions expire, and points in time as stores keep them.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Tells the time by which sessions are created and expire.
///
/// The default is [`SystemClock`]. Tests set a `ManualClock` of the `testing` module, so that no test
/// sleeps.
///
/// ```
/// use cloakroom::clock::{Clock, SystemClock};
///
/// assert!(SystemClock.now().year() > 2000);
/// ```
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now, in UTC.
    fn now(&self) -> OffsetDateTime;

    /// [`now`](Self::now) as unix milliseconds: what the layer asks for, once or twice with each request
    /// that uses its session. A clock that counts milliseconds need not make a date of them.
    fn unix_millis(&self) -> i64 {
        to_unix_millis(self.now())
    }
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn unix_millis(&self) -> i64 {
        let millis = |duration: std::time::Duration| duration.as_millis() as i64;
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        }
    }
}

/// A point in time as unix milliseconds, UTC: the form in which stores keep times, so that none needs a
/// date feature of its driver.
///
/// Fractions of a millisecond are dropped.
///
/// ```
/// use cloakroom::clock::{from_unix_millis, to_unix_millis};
///
/// let time = from_unix_millis(1_700_000_000_123);
/// assert_eq!(time.year(), 2023);
/// assert_eq!(to_unix_millis(time), 1_700_000_000_123);
/// ```
pub fn to_unix_millis(time: OffsetDateTime) -> i64 {
    time.unix_timestamp() * 1_000 + i64::from(time.millisecond())
}

/// The point in time of these unix milliseconds; the nearest that can be represented if there is none.
///
/// The inverse of [`to_unix_millis`].
pub fn from_unix_millis(millis: i64) -> OffsetDateTime {
    let millis = millis.clamp(EARLIEST, LATEST);
    let (seconds, fraction) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
    // Neither fails: the seconds are clamped, and the fraction is one. A sum with a `Duration` says the same,
    // and takes several times as long.
    OffsetDateTime::from_unix_timestamp(seconds)
        .and_then(|time| time.replace_millisecond(fraction as u16))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The first millisecond of the year -9999, and the last one of the year 9999.
const EARLIEST: i64 = -377_705_116_800_000;
const LATEST: i64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_survive_the_way_there_and_back() {
        for millis in [
            0,
            1,
            -1,
            999,
            -999,
            -1_001,
            1_700_000_000_123,
            253_402_300_799_999,
        ] {
            assert_eq!(to_unix_millis(from_unix_millis(millis)), millis);
        }
    }

    #[test]
    fn milliseconds_out_of_range_are_clamped() {
        assert_eq!(from_unix_millis(i64::MAX).year(), 9999);
        assert_eq!(from_unix_millis(i64::MIN).year(), -9999);
        // To a whole millisecond, so that a record with such a time is the same after a store kept it.
        for millis in [i64::MAX, LATEST + 1, i64::MIN, EARLIEST - 1] {
            let time = from_unix_millis(millis);
            assert_eq!(from_unix_millis(to_unix_millis(time)), time);
        }
    }
}
