//! Pages that are no reference: what to know before a choice.
//!
//! Nothing here is code. The pages are files of the folder `docs`.

/// The life of a login, from the first visit to the time after the logout.
///
#[doc = include_str!("../docs/login-flow.svg")]
#[doc = ""]
#[doc = include_str!("../docs/sessions-for-authentication.md")]
pub mod sessions_for_authentication {}

#[doc = include_str!("../docs/choosing-a-store.md")]
pub mod choosing_a_store {}

#[doc = include_str!("../docs/sizing.md")]
pub mod sizing {}

/// What a client sees of a store that fails, what the log says, and within which time.
///
#[doc = include_str!("../docs/when-the-store-fails.md")]
pub mod when_the_store_fails {}
