//! A service whose response body cannot be made empty is used where a service is needed.

use std::convert::Infallible;
use std::future::{Ready, ready};

use cloakroom::{SessionLayer, store::MemoryStore};
use http::{Request, Response};
use tower::{Layer, Service, service_fn};

struct Unwritten;

fn answer(_: Request<()>) -> Ready<Result<Response<Unwritten>, Infallible>> {
    ready(Ok(Response::new(Unwritten)))
}

fn serve(_: impl Service<Request<()>>) {}

pub(crate) fn main() {
    serve(SessionLayer::new(MemoryStore::new()).layer(service_fn(answer)));
}
