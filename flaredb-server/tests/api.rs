//! The client port of one node, through a real gRPC connection: what is answered, and in which words it is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs,
    unreachable_pub
)]

#[path = "api/harness.rs"]
mod harness;
#[path = "api/http2.rs"]
mod http2;
#[path = "api/kv.rs"]
mod kv;
#[path = "api/others.rs"]
mod others;
#[path = "api/port.rs"]
mod port;
#[path = "api/quota.rs"]
mod quota;
#[path = "api/raw.rs"]
mod raw;

use tonic::{Code, Response, Status};

#[track_caller]
fn assert_refused<T>(answer: Result<Response<T>, Status>, code: Code, text: &str) {
    let Err(status) = answer else { panic!("answered, but should be refused: {text}") };
    assert_eq!((status.code(), status.message()), (code, text));
}
