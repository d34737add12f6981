//! A session without a request.

use crate::layer::SessionLayer;
use crate::session::Session;

/// A new session of this layer without a request around it, to test code that takes a [`Session`].
///
/// It is that of a visitor without a cookie. No response commits it: what is staged is saved by
/// [`Session::save`], and by a login.
///
/// ```
/// use cloakroom::testing::new_session;
/// use cloakroom::{Error, Session, SessionLayer, store::MemoryStore};
///
/// fn add_to_cart(session: &Session, article: u32) -> Result<usize, Error> {
///     let cart = session.update("cart", move |cart: &mut Vec<u32>| cart.push(article))?;
///     Ok(cart.len())
/// }
///
/// let session = new_session(&SessionLayer::new(MemoryStore::new()));
/// assert_eq!(add_to_cart(&session, 7)?, 1);
/// assert_eq!(add_to_cart(&session, 9)?, 2);
/// # Ok::<(), Error>(())
/// ```
pub fn new_session(layer: &SessionLayer) -> Session {
    Session::without_request(layer.settings())
}
