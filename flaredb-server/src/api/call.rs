//! One call: finds its service, within the time that the client gives it, for as long as the client wants the answer.
//!
//! The KV service is called with bytes and answers with bytes, because nearly every call is one of its; all others go
//! through tonic (`routed.rs`).

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::Request;
use tonic::service::Routes;

use super::{
    kv::{KvService, Method},
    metadata::CheckMetadata,
    routed, status,
    unary::{self, Refused},
};

/// What clients can call.
pub(super) struct Services {
    kv: Option<Kv>,
    routes: Routes,
}

struct Kv {
    service: KvService,
    check: CheckMetadata,
    receive_bytes_max: usize,
}

impl Services {
    /// `routes`: everything but KV. A request message of KV may have `receive_bytes_max` bytes.
    pub(super) fn new(kv: KvService, check: CheckMetadata, receive_bytes_max: usize, routes: Routes) -> Self {
        Self { kv: Some(Kv { service: kv, check, receive_bytes_max }), routes: routes.prepare() }
    }

    /// Every call is answered with Unimplemented.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { kv: None, routes: Routes::default() }
    }
}

/// Serves a call to its end. Dropped before, the client sees the stream reset.
pub(super) async fn serve(services: Arc<Services>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let time_max = unary::timeout(request.headers());
    let kv = services.kv.as_ref().zip(Method::of(request.uri().path()));
    let Some((kv, method)) = kv else {
        // Boxed: all calls of a connection are as large as the largest.
        return Box::pin(routed::serve(services.routes.clone(), request, respond, time_max)).await;
    };
    let outcome = while_wanted(&mut respond, time_max, kv.call(method, request)).await;
    match outcome {
        Ok(answer) => unary::answer(respond, Ok(answer)),
        Err(Some(status)) => unary::answer(respond, Err(status)),
        Err(None) => {}
    }
}

impl Kv {
    async fn call(&self, method: Method, request: Request<RecvStream>) -> Result<Bytes, Refused> {
        let (head, mut body) = request.into_parts();
        self.check.check(&head.headers)?;
        drop(head);
        let message = unary::message(&mut body, self.receive_bytes_max).await?;
        Ok(self.service.call(method, message).await?)
    }
}

/// Runs `work` until it is done, its time is over, or the client has taken the call back (then there is no answer).
pub(super) async fn while_wanted<T>(
    respond: &mut SendResponse<Bytes>,
    time_max: Option<Duration>,
    work: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    let mut work = pin!(work);
    let mut timer: Option<Pin<Box<tokio::time::Sleep>>> = None;
    poll_fn(|context| {
        if let Poll::Ready(outcome) = work.as_mut().poll(context) {
            return Poll::Ready(outcome);
        }
        // Most calls are done before either of these matters.
        if respond.poll_reset(context).is_ready() {
            return Poll::Ready(Err(None));
        }
        if let Some(time_max) = time_max {
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(time_max)));
            if timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(Some(status::deadline_exceeded())));
            }
        }
        Poll::Pending
    })
    .await
}
