//! The clock by which sessions expire, and points in time as stores keep them.

use std::fmt;

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
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
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
    // On the way of each load, so by the second, which is several times as fast as to add up durations.
    let of_second = millis.rem_euclid(1_000) as u16;
    OffsetDateTime::from_unix_timestamp(millis.div_euclid(1_000))
        .and_then(|second| second.replace_millisecond(of_second))
        .unwrap_or(if millis < 0 {
            time::PrimitiveDateTime::MIN.assume_utc()
        } else {
            time::PrimitiveDateTime::MAX.assume_utc()
        })
}

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
    }
}
