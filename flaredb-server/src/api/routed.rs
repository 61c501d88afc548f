//! Calls of the services that tonic serves: their bodies between HTTP/2 and tower, in both directions, streams included.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{Request, Response};
use http_body::{Body, Frame};
use tonic::{codegen::Service, service::Routes};

use super::{call, unary};

/// `time_max` bounds the wait for the answer's beginning; a stream may last.
pub(super) async fn serve(
    mut routes: Routes,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    time_max: Option<Duration>,
) {
    let work = async {
        // The routes are always ready.
        match routes.call(request.map(RequestBody)).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    };
    let (head, body) = match call::while_wanted(&mut respond, time_max, work).await {
        Ok(response) => response.into_parts(),
        Err(Some(status)) => return unary::answer(respond, Err(status)),
        Err(None) => return,
    };
    let ended = body.is_end_stream();
    // Errors from here on mean that the stream or the connection is gone.
    let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), ended) else { return };
    if !ended {
        let _ = send_body(&mut stream, body).await;
    }
}

/// Sends no more than the client has room for, and ends when it wants no more.
async fn send_body(stream: &mut SendStream<Bytes>, body: tonic::body::Body) -> Result<(), h2::Error> {
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|context| {
            if let Poll::Ready(frame) = body.as_mut().poll_frame(context) {
                return Poll::Ready(Ok(frame));
            }
            stream.poll_reset(context).map(|reset| Err(reset.map_or_else(|error| error, h2::Error::from)))
        });
        let Some(frame) = frame.await? else { return stream.send_data(Bytes::new(), true) };
        let Ok(frame) = frame else {
            stream.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        };
        match frame.into_data() {
            Ok(data) => send_data(stream, data).await?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return stream.send_trailers(trailers);
                }
            }
        }
    }
}

async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(room) = poll_fn(|context| stream.poll_capacity(context)).await else {
            return Err(Reason::CANCEL.into());
        };
        let part = data.split_to(room?.min(data.len()));
        stream.send_data(part, false)?;
    }
    Ok(())
}

/// A request's body for tower.
struct RequestBody(RecvStream);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let body = &mut self.0;
        match ready!(body.poll_data(context)) {
            Some(Ok(data)) => {
                // An error means that the stream is gone, which the next poll says too.
                let _ = body.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => match ready!(body.poll_trailers(context)) {
                Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(None) => Poll::Ready(None),
                Err(error) => Poll::Ready(Some(Err(error))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
