//! Keys of a session's values.

use std::marker::PhantomData;

/// A key with the type of its value, so that both stand in one place.
///
/// A plain `&str` is a key, too; the type of its value is then up to each call.
///
/// ```
/// use cloakroom::Key;
///
/// const VISITS: Key<u64> = Key::new("visits");
/// assert_eq!(VISITS.as_ref(), "visits");
/// ```
pub struct Key<T> {
    name: &'static str,
    // A key has no value: it is `Send` and `Sync` whatever `T` is.
    value: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// The key of this name.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            value: PhantomData,
        }
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.name).finish()
    }
}

impl<T> AsRef<str> for Key<T> {
    fn as_ref(&self) -> &str {
        self.name
    }
}

/// What names a value of type `T`: a [`Key<T>`], or a `&str` for any `T`.
pub trait KeyOf<T>: private::Sealed<T> {
    #[doc(hidden)]
    fn name(&self) -> &str;
}

impl<T> KeyOf<T> for Key<T> {
    fn name(&self) -> &str {
        self.name
    }
}

impl<T> KeyOf<T> for &str {
    fn name(&self) -> &str {
        self
    }
}

impl<T> KeyOf<T> for &String {
    fn name(&self) -> &str {
        self
    }
}

mod private {
    pub trait Sealed<T> {}

    impl<T> Sealed<T> for super::Key<T> {}
    impl<T> Sealed<T> for &str {}
    impl<T> Sealed<T> for &String {}
}
