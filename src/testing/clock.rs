//! Time that passes when the test says so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use time::OffsetDateTime;

use super::lock;
use crate::clock::{Clock, SystemClock, from_unix_millis, to_unix_millis};

/// A clock that stands still until it is told to [`advance`](Self::advance), so that no test sleeps.
///
/// It starts at the real time, to the millisecond, and never goes back: an engine that expires records by
/// itself has no other time than the real one. Clones are one clock: the test keeps one, and the app is
/// given the other.
///
/// ```
/// use std::time::Duration;
/// use cloakroom::clock::Clock;
/// use cloakroom::testing::ManualClock;
///
/// let clock = ManualClock::new();
/// let start = clock.now();
/// assert_eq!(clock.now(), start);
/// clock.clone().advance(Duration::from_secs(3_600));
/// assert_eq!(clock.now() - start, Duration::from_secs(3_600));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<Mutex<OffsetDateTime>>,
}

impl ManualClock {
    /// A clock that shows the real time, to the millisecond, and stands still.
    pub fn new() -> Self {
        let now = from_unix_millis(to_unix_millis(SystemClock.now()));
        Self {
            now: Arc::new(Mutex::new(now)),
        }
    }

    /// Lets this much time pass, for all clones.
    ///
    /// # Panics
    ///
    /// If that is past the year 9999.
    pub fn advance(&self, duration: Duration) {
        let mut now = lock(&self.now);
        match time::Duration::try_from(duration)
            .ok()
            .and_then(|duration| now.checked_add(duration))
        {
            Some(later) => *now = later,
            None => panic!("the clock cannot advance by {duration:?}: that is past the year 9999"),
        }
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        *lock(&self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_the_real_time_to_the_millisecond() {
        let before = SystemClock.now() - Duration::from_millis(1);
        let start = ManualClock::new().now();
        assert!(start > before && start <= SystemClock.now());
        assert_eq!(start.nanosecond() % 1_000_000, 0);
    }

    #[test]
    fn it_stands_still_until_it_advances_and_clones_follow() {
        let clock = ManualClock::new();
        let other = clock.clone();
        let start = clock.now();
        clock.advance(Duration::from_millis(1));
        other.advance(Duration::from_secs(60));
        assert_eq!(clock.now(), start + Duration::from_millis(60_001));
        assert_eq!(other.now(), clock.now());
    }

    #[test]
    fn a_time_that_there_is_not_is_refused_and_changes_nothing() {
        let clock = ManualClock::new();
        let start = clock.now();
        let advanced = std::panic::catch_unwind(|| clock.advance(Duration::MAX));
        assert!(advanced.is_err());
        assert_eq!(clock.now(), start);
    }
}
