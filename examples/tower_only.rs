//! Sessions without axum: any tower service of `http` types, here a function that hyper serves.

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use cloakroom::{Session, SessionLayer, store::MemoryStore};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::ServiceBuilder;

async fn visits(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = match count(&request).await {
        Ok(n) => Response::new(Full::from(format!("visit {n}"))),
        // What axum does with an error by itself: the status, and a text that tells clients nothing.
        Err(error) => {
            let mut response = Response::new(Full::from(error.body_text()));
            *response.status_mut() = error.status();
            response
        }
    };
    Ok(response)
}

async fn count(request: &Request<Incoming>) -> Result<u64, cloakroom::Error> {
    // What the extractor does in axum.
    let session = Session::load(request.extensions()).await?;
    session.update("visits", |n: &mut u64| *n += 1)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::new()))
        .service_fn(visits);
    let port = std::env::var("PORT").unwrap_or("3000".into());
    let listener = TcpListener::bind(format!("localhost:{port}")).await?;
    println!("listening on http://localhost:{port}");
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new()) // for hyper's limit on the time that a request's head may take
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
}
