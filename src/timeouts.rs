//! Idle and absolute timeouts: arithmetic only.

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest absolute timeout: ten years. More is taken for a mistake in a unit.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Timeouts are stored in milliseconds, so a shorter one is none.
const SHORTEST: Duration = Duration::from_millis(1);

/// When a session ends by itself: after a time without activity, and at the latest after a time since it
/// began or its user last logged in.
///
/// Both are kept per session in its record and enforced on the server. The default is
/// [`AAL2`](Self::AAL2).
///
/// ```
/// use std::time::Duration;
/// use cloakroom::Timeouts;
///
/// assert_eq!(Timeouts::default(), Timeouts::AAL2);
/// assert_eq!(Timeouts::AAL2.idle(), Some(Duration::from_secs(60 * 60)));
/// assert_eq!(Timeouts::AAL2.absolute(), Duration::from_secs(24 * 60 * 60));
///
/// let remember_me = Timeouts::new(Duration::from_secs(14 * 86_400), Duration::from_secs(90 * 86_400));
/// assert_eq!(remember_me.idle(), Some(Duration::from_secs(14 * 86_400)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    idle: Option<Duration>,
    absolute: Duration,
}

impl Timeouts {
    /// Authenticator assurance level 1: 30 days, and no idle timeout (NIST SP 800-63B-4 §2.1.3).
    pub const AAL1: Self = Self::without_idle(Duration::from_secs(30 * DAY.as_secs()));

    /// Authenticator assurance level 2: 24 hours, 1 hour idle (NIST SP 800-63B-4 §2.2.3).
    pub const AAL2: Self = Self::new(HOUR, DAY);

    /// Authenticator assurance level 3: 12 hours, 15 minutes idle (NIST SP 800-63B-4 §2.3.3).
    pub const AAL3: Self = Self::new(
        Duration::from_secs(15 * MINUTE.as_secs()),
        Duration::from_secs(12 * HOUR.as_secs()),
    );

    /// Timeouts of this idle and this absolute duration.
    ///
    /// What cannot be meant (zero, idle longer than absolute, more than ten years) is an error where the
    /// timeouts are put to use: when the layer is built, at a login, or at `set_timeouts`.
    pub const fn new(idle: Duration, absolute: Duration) -> Self {
        Self {
            idle: Some(idle),
            absolute,
        }
    }

    /// An absolute timeout alone: activity neither keeps the session alive nor is awaited.
    pub const fn without_idle(absolute: Duration) -> Self {
        Self {
            idle: None,
            absolute,
        }
    }

    /// How long a session lives without activity; `None` if that does not matter.
    pub const fn idle(&self) -> Option<Duration> {
        self.idle
    }

    /// How long a session lives at most, counted from its beginning or the last login.
    pub const fn absolute(&self) -> Duration {
        self.absolute
    }

    /// What is wrong with these timeouts, in words that say what to do.
    pub(crate) fn problem(&self) -> Option<String> {
        let absolute = self.absolute;
        if absolute < SHORTEST {
            return Some(
                "the absolute timeout is zero: give the longest time that a session may last"
                    .into(),
            );
        }
        if absolute > LONGEST {
            return Some(format!(
                "an absolute timeout of {absolute:?} is longer than ten years: \
                 give a shorter one, and check the unit"
            ));
        }
        match self.idle {
            Some(idle) if idle < SHORTEST => Some(
                "the idle timeout is zero: give a longer one, or use Timeouts::without_idle".into(),
            ),
            Some(idle) if idle > absolute => Some(format!(
                "an idle timeout of {idle:?} is longer than the absolute timeout of {absolute:?}: \
                 give a shorter one, or use Timeouts::without_idle"
            )),
            _ => None,
        }
    }

    /// The absolute deadline, of a session whose absolute timeout began at `started_at`.
    pub(crate) fn deadline(&self, started_at: i64) -> i64 {
        started_at.saturating_add(millis(self.absolute))
    }

    /// When a session dies that is active now: at the earlier of its two deadlines.
    pub(crate) fn expires_at(&self, started_at: i64, now: i64) -> i64 {
        let deadline = self.deadline(started_at);
        match self.idle {
            Some(idle) => deadline.min(now.saturating_add(millis(idle))),
            None => deadline,
        }
    }

    /// By how much activity has to move the expiry before it is worth a write: 1/16 of the idle window.
    pub(crate) fn touch_step(&self) -> i64 {
        self.idle
            .map_or(i64::MAX, |idle| (millis(idle) / 16).max(1))
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::AAL2
    }
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> i64 {
    // `as_millis` counts with 128 bits.
    let seconds = duration.as_secs().saturating_mul(1_000);
    let millis = seconds.saturating_add(duration.subsec_millis().into());
    i64::try_from(millis).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_assurance_levels_are_those_of_nist_sp_800_63b_4() {
        assert_eq!(Timeouts::AAL1, Timeouts::without_idle(seconds(30 * 86_400)));
        assert_eq!(
            Timeouts::AAL2,
            Timeouts::new(seconds(3_600), seconds(86_400))
        );
        assert_eq!(Timeouts::AAL3, Timeouts::new(seconds(900), seconds(43_200)));
        for level in [Timeouts::AAL1, Timeouts::AAL2, Timeouts::AAL3] {
            assert_eq!(level.problem(), None);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_a_problem_that_says_what_to_do() {
        for (timeouts, says) in [
            (
                Timeouts::new(Duration::ZERO, seconds(1)),
                "idle timeout is zero",
            ),
            (
                Timeouts::new(Duration::from_micros(999), seconds(1)),
                "idle timeout is zero",
            ),
            (
                Timeouts::new(seconds(1), Duration::ZERO),
                "absolute timeout is zero",
            ),
            (
                Timeouts::without_idle(Duration::ZERO),
                "absolute timeout is zero",
            ),
            (
                Timeouts::without_idle(Duration::MAX),
                "longer than ten years",
            ),
            (
                Timeouts::new(seconds(2), seconds(1)),
                "longer than the absolute",
            ),
        ] {
            let problem = timeouts.problem().unwrap();
            assert!(problem.contains(says), "{problem}");
        }
        assert_eq!(Timeouts::new(seconds(1), seconds(1)).problem(), None);
        assert_eq!(Timeouts::without_idle(LONGEST).problem(), None);
    }

    #[test]
    fn the_earlier_deadline_counts() {
        let timeouts = Timeouts::new(seconds(10), seconds(60));
        assert_eq!(timeouts.expires_at(1_000, 1_000), 11_000);
        assert_eq!(timeouts.expires_at(1_000, 55_000), 61_000);
        assert_eq!(
            Timeouts::without_idle(seconds(60)).expires_at(1_000, 55_000),
            61_000
        );
    }

    #[test]
    fn activity_is_written_after_a_sixteenth_of_the_window() {
        assert_eq!(Timeouts::new(seconds(16), seconds(60)).touch_step(), 1_000);
        assert_eq!(
            Timeouts::new(Duration::from_millis(3), seconds(60)).touch_step(),
            1
        );
        assert_eq!(Timeouts::AAL1.touch_step(), i64::MAX);
    }
}
