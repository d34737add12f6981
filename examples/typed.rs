//! A type of its own for what a session holds: handlers take a `Cart`, and never see a key or a session.
//!
//! ```sh
//! curl -c jar -b jar -X POST http://localhost:3000/cart/apple
//! curl -c jar -b jar http://localhost:3000/cart
//! ```

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::response::Result;
use axum::routing::{get, post};
use axum::{Json, Router};
use cloakroom::store::MemoryStore;
use cloakroom::{Error, Key, Session, SessionLayer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// What is for sale. A path that names anything else is a 400 before a handler runs, so clients cannot put
/// what they like into the session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fruit {
    Apple,
    Pear,
}

/// What the session holds. A field that a later version of the app adds needs a `#[serde(default)]`, so that
/// the sessions of before can still be read.
#[derive(Default, Serialize, Deserialize)]
struct Contents {
    pieces: BTreeMap<Fruit, u32>,
}

/// The shopping cart of whoever sends the request.
struct Cart(Session);

impl Cart {
    const KEY: Key<Contents> = Key::new("cart");

    fn contents(&self) -> Result<Contents, Error> {
        Ok(self.0.get(Self::KEY)?.unwrap_or_default())
    }

    /// By `update`, and not by a `get` and an `insert`: where two requests overlap, the closure runs again on
    /// what the other one left, so neither loses the other's fruit.
    fn add(&self, fruit: Fruit) -> Result<Contents, Error> {
        self.0.update(Self::KEY, move |contents| {
            let pieces = contents.pieces.entry(fruit).or_default();
            *pieces = pieces.saturating_add(1);
        })
    }

    fn empty(&self) -> Result<(), Error> {
        self.0.remove(Self::KEY)?;
        Ok(())
    }
}

impl<S: Sync> FromRequestParts<S> for Cart {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        Session::from_request_parts(parts, state).await.map(Self)
    }
}

async fn show(cart: Cart) -> Result<Json<Contents>> {
    Ok(Json(cart.contents()?))
}

async fn add(cart: Cart, Path(fruit): Path<Fruit>) -> Result<Json<Contents>> {
    Ok(Json(cart.add(fruit)?))
}

async fn empty(cart: Cart) -> Result<()> {
    Ok(cart.empty()?)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new()
        .route("/cart", get(show).delete(empty))
        .route("/cart/{fruit}", post(add))
        .layer(SessionLayer::new(MemoryStore::new()));
    let port = std::env::var("PORT").unwrap_or("3000".into());
    let listener = TcpListener::bind(format!("localhost:{port}")).await?;
    println!("listening on http://localhost:{port}");
    axum::serve(listener, app).await
}
