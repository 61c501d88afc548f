//! What a client says beside its request, in metadata: checked before any service sees the request.

use http::HeaderMap;
use tonic::{Request, Status, service::Interceptor};

use super::status;
use crate::driver::NodeHandle;

/// The client wants an error at once when there is no leader, instead of waiting for one.
const HAS_LEADER: &str = "hasleader";
/// The client's level of the API. Any text will do.
const CLIENT_API_VERSION: &str = "client-api-version";

/// Refuses requests by their metadata.
#[derive(Clone)]
pub(super) struct CheckMetadata {
    handle: NodeHandle,
}

impl CheckMetadata {
    pub(super) fn new(handle: NodeHandle) -> Self {
        Self { handle }
    }

    /// gRPC's metadata are HTTP's header fields.
    pub(super) fn check(&self, fields: &HeaderMap) -> Result<(), Status> {
        if fields.get(CLIENT_API_VERSION).is_some_and(|version| std::str::from_utf8(version.as_bytes()).is_err()) {
            return Err(status::invalid_client_api_version());
        }
        let wants_leader = fields.get(HAS_LEADER).is_some_and(|value| value.as_bytes() == b"true");
        if wants_leader && self.handle.peer().leader.is_none() {
            return Err(status::no_leader());
        }
        Ok(())
    }
}

impl Interceptor for CheckMetadata {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        self.check(request.metadata().as_ref())?;
        Ok(request)
    }
}
