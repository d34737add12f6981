//! How a client's requests come to the app.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use cloakroom::testing::TestClient;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, ServiceExt};

use super::BoxFuture;

/// A browser's cookies around an app.
pub(crate) type Client = TestClient<Transport, Body>;

#[derive(Clone)]
pub(crate) enum Transport {
    InProcess(Router),
    /// By HTTP/1.1, with a connection for each request.
    Tcp(SocketAddr),
}

impl Transport {
    /// Serves the app on a port of its own, for as long as the test runs.
    pub(crate) async fn listen(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self::Tcp(address)
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::InProcess(app) => Box::pin(app.clone().oneshot(request)),
            Self::Tcp(address) => {
                let address = *address;
                Box::pin(async move { Ok(exchange(address, request).await) })
            }
        }
    }
}

async fn exchange(address: SocketAddr, request: Request<Body>) -> Response<Body> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    response.map(Body::new)
}

/// Polls a future at most so often, and drops it: what becomes of a request whose client hangs up.
pub(crate) async fn poll_times<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
