//! The middleware: a session for each request, committed when its response is ready.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use http::{HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::commit::{HandlerVerdict, commit};
use crate::error::Error;
use crate::events::notices;
use crate::headers::Effects;
use crate::settings::Settings;
use crate::slot::{Slot, SlotRef, Stage};
use crate::state::plan::is_idle;

/// Gives each request a session, and commits it when the response is ready.
///
/// Made by [`SessionLayer`](crate::SessionLayer). The inner service may be any that takes and gives `http`
/// types; it need not be `Clone`, `'static` or `Send`.
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> SessionService<S> {
    pub(crate) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SessionService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: EmptyBody,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let outer = request.extensions_mut().remove::<SlotRef>();
        if let Some(header) = self.settings.carriers.header() {
            header.mark_sensitive(request.headers_mut());
        }
        let (slot, guard) = match self.slot_around(outer.as_ref()) {
            Some(slot) => (slot, Guard(None)),
            None => {
                let slot = Arc::new(Slot::new(self.settings.clone(), request.headers()));
                (slot.clone(), Guard(Some(slot)))
            }
        };
        let around = SlotRef::inside(outer, slot);
        request.extensions_mut().insert(around);
        ResponseFuture {
            phase: Phase::Inner {
                inner: self.inner.call(request),
            },
            guard,
        }
    }
}

impl<S> SessionService<S> {
    /// The slot of an outer layer that serves this cookie or header already: then there is one session, the
    /// outer one's.
    fn slot_around(&self, outer: Option<&SlotRef>) -> Option<Arc<Slot>> {
        let carriers = &self.settings.carriers;
        let slot = outer?.of_carriers(carriers)?;
        if !self
            .settings
            .warned_of_nesting
            .swap(true, Ordering::Relaxed)
        {
            notices::layered_twice(carriers.name());
        }
        Some(slot.clone())
    }
}

/// Closes the session of a request when it is over: committed, dropped, or unwound by a panic. So a later
/// change is an error, and never silently lost.
#[derive(Debug)]
struct Guard(Option<Arc<Slot>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            slot.close();
        }
    }
}

pin_project! {
    /// The response of a [`SessionService`].
    pub struct ResponseFuture<F, B> {
        #[pin]
        phase: Phase<F, B>,
        guard: Guard,
    }
}

pin_project! {
    #[project = PhaseProjection]
    enum Phase<F, B> {
        Inner { #[pin] inner: F },
        Commit { commit: Commit, response: Option<Response<B>> },
    }
}

/// Only this future is boxed, and only where the store is written to.
type Commit = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: EmptyBody,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.phase.as_mut().project() {
                PhaseProjection::Inner { inner } => {
                    let mut response = ready!(inner.poll(context))?;
                    let Some(slot) = &this.guard.0 else {
                        return Poll::Ready(Ok(response));
                    };
                    let verdict = HandlerVerdict::of(response.status());
                    match conclude(slot, verdict) {
                        Conclusion::Closed(effects) => {
                            if let Some(effects) = effects {
                                effects.apply(response.headers_mut(), &slot.settings);
                            }
                            this.guard.0 = None;
                            return Poll::Ready(Ok(response));
                        }
                        Conclusion::Commit => {}
                    }
                    let commit = Box::pin(commit(slot.clone(), verdict));
                    let response = Some(response);
                    this.phase.set(Phase::Commit { commit, response });
                }
                PhaseProjection::Commit { commit, response } => {
                    let committed = ready!(commit.as_mut().poll(context));
                    let Some(mut response) = response.take() else {
                        // Polled after it was ready: there is nothing to come.
                        return Poll::Pending;
                    };
                    if let Err(error) = committed {
                        response = failed(&error);
                    }
                    if let Some(slot) = &this.guard.0 {
                        finish(slot, &mut response);
                    }
                    return Poll::Ready(Ok(response));
                }
            }
        }
    }
}

/// How the session of a request ends with its response.
enum Conclusion {
    /// It is closed: there was nothing to write, nor to wait for. The response may have something to say.
    Closed(Option<Effects>),
    Commit,
}

/// Closes the session, unless there is something to write, or to wait for.
fn conclude(slot: &Slot, verdict: HandlerVerdict) -> Conclusion {
    let settings = &*slot.settings;
    let mut stage = slot.stage();
    // Under the lock: whoever enters later looks at the stage after that, and finds the session closed. Or
    // else a login of another task could take effect after this look, and its cookie would never go out.
    if stage.is_busy() {
        return Conclusion::Commit;
    }
    match &mut *stage {
        untouched @ (Stage::Untouched | Stage::Closed) => {
            *untouched = Stage::Closed;
            Conclusion::Closed(None)
        }
        Stage::Failed(_) => Conclusion::Closed(Some(Effects::of_failure())),
        Stage::Loaded(state) if state.cookie_may_be_stale => Conclusion::Commit,
        Stage::Loaded(state) => {
            if verdict == HandlerVerdict::ServerError {
                state.discard_staged();
                state.closed = true;
            } else {
                // By the time of the load, when what counts as activity took place: that needs no look at the clock.
                state.closed = is_idle(state, || state.loaded_at, &settings.rules);
            }
            match state.closed {
                true => Conclusion::Closed(Some(Effects::of(state, settings))),
                false => Conclusion::Commit,
            }
        }
    }
}

/// After a commit, says in the response what the session is to the browser and to caches.
fn finish<B>(slot: &Slot, response: &mut Response<B>) {
    let settings = &*slot.settings;
    let effects = match &mut *slot.stage() {
        stage @ (Stage::Untouched | Stage::Closed) => {
            *stage = Stage::Closed;
            return;
        }
        Stage::Failed(_) => Effects::of_failure(),
        Stage::Loaded(state) => Effects::of(state, settings),
    };
    effects.apply(response.headers_mut(), settings);
}

/// The response in place of the handler's, whose changes could not be saved.
fn failed<B: EmptyBody>(error: &Error) -> Response<B> {
    let mut response = Response::new(B::empty());
    *response.status_mut() = error.status();
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(http::header::CACHE_CONTROL, no_store);
    response.extensions_mut().insert(error.clone());
    response
}

/// A response body that can be made empty, for the 503 that stands in for a response whose session could
/// not be saved. Every body with a [`Default`] can.
#[diagnostic::on_unimplemented(
    message = "cloakroom cannot make an empty response body of type `{Self}`",
    label = "the response body of the service inside the SessionLayer has no `Default`",
    note = "where a session cannot be saved, SessionLayer answers 503 with an empty body, and so needs `Default` for the body type",
    note = "map the body to one with a `Default` inside the layer, such as `axum::body::Body` or `http_body_util::combinators::BoxBody`, with tower_http::map_response_body::MapResponseBodyLayer"
)]
pub trait EmptyBody: private::Sealed {
    #[doc(hidden)]
    fn empty() -> Self;
}

// Without this the compiler asks for `Default` alone, and leaves out what is said above.
#[diagnostic::do_not_recommend]
impl<B: Default> EmptyBody for B {
    fn empty() -> Self {
        B::default()
    }
}

mod private {
    pub trait Sealed {}

    #[diagnostic::do_not_recommend]
    impl<B: Default> Sealed for B {}
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
