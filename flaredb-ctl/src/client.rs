//! The connection to the cluster: endpoints in order, and which failure may be tried on the next one.
//!
//! The rule: a read may go to another endpoint whenever this one could not serve it. A write goes to another endpoint
//! only if it never left for this one. What a failure means is decided in `diagnosis.rs`.

use std::time::{Duration, Instant};

use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::diagnosis::{Greeting, Verdict, first_cause, greeting, judge};
use crate::endpoint::Endpoint;
use crate::error::{Error, Failure};

/// How long to look at a server that broke a connection, to tell whether it speaks another protocol.
const GREETING_PATIENCE: Duration = Duration::from_secs(1);

/// Where to send requests and how long to wait.
#[derive(Debug, Clone)]
pub struct Client {
    /// Endpoints in the order they are tried; at least one.
    pub endpoints: Vec<Endpoint>,
    /// How long to wait for a connection, for each endpoint.
    pub dial_timeout: Duration,
    /// How long to wait for an answer, over all endpoints.
    pub command_timeout: Duration,
}

/// An answer and who gave it.
#[derive(Debug)]
pub struct Answer<T> {
    /// The endpoint that answered.
    pub endpoint: Endpoint,
    /// What it said.
    pub message: T,
}

impl Client {
    /// The same client, asking only `endpoint`.
    pub fn only(&self, endpoint: Endpoint) -> Self {
        Client { endpoints: vec![endpoint], ..self.clone() }
    }

    /// Sends a request that changes nothing, to one endpoint after another until one serves it.
    pub async fn read<T>(
        &self,
        call: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<Answer<T>, Error> {
        let mut failures = Vec::new();
        let mut time_left = self.command_timeout;
        let mut endpoints_left = u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX);
        for endpoint in &self.endpoints {
            // A server that hangs may not use up the time of those after it.
            let patience = time_left.checked_div(endpoints_left).unwrap_or(time_left);
            endpoints_left = endpoints_left.saturating_sub(1);
            let channel = match self.connect(endpoint).await {
                Ok(channel) => channel,
                Err(cause) => {
                    failures.push(failure(endpoint, cause));
                    continue;
                }
            };
            let started = Instant::now();
            let outcome = tokio::time::timeout(patience, call(channel)).await;
            time_left = time_left.saturating_sub(started.elapsed());
            match outcome {
                Ok(Ok(response)) => {
                    return Ok(Answer { endpoint: endpoint.clone(), message: response.into_inner() });
                }
                Ok(Err(status)) => match self.verdict(endpoint, &status).await {
                    Verdict::Refused(cause) => return Err(Error::Refused(failure(endpoint, cause))),
                    Verdict::Unavailable(cause) | Verdict::Unknown(cause) => failures.push(failure(endpoint, cause)),
                },
                Err(_) => failures.push(failure(endpoint, no_answer(patience))),
            }
        }
        Err(Error::Unavailable(failures))
    }

    /// Sends a request that changes something, to the first endpoint that takes the connection, once.
    pub async fn write<T>(
        &self,
        call: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>,
    ) -> Result<Answer<T>, Error> {
        let mut failures = Vec::new();
        for endpoint in &self.endpoints {
            let channel = match self.connect(endpoint).await {
                Ok(channel) => channel,
                Err(cause) => {
                    failures.push(failure(endpoint, cause));
                    continue;
                }
            };
            // From here on the request may be on its way: no other endpoint is tried.
            return match tokio::time::timeout(self.command_timeout, call(channel)).await {
                Ok(Ok(response)) => Ok(Answer { endpoint: endpoint.clone(), message: response.into_inner() }),
                Ok(Err(status)) => Err(match self.verdict(endpoint, &status).await {
                    Verdict::Refused(cause) => Error::Refused(failure(endpoint, cause)),
                    Verdict::Unavailable(cause) => Error::Unavailable(vec![failure(endpoint, cause)]),
                    Verdict::Unknown(cause) => Error::OutcomeUnknown(failure(endpoint, cause)),
                }),
                Err(_) => Err(Error::OutcomeUnknown(failure(endpoint, no_answer(self.command_timeout)))),
            };
        }
        Err(Error::Unavailable(failures))
    }

    /// Connects; the error is the first cause in words.
    async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, String> {
        let builder = tonic::transport::Endpoint::from_shared(endpoint.uri()).map_err(|error| first_cause(&error))?;
        let builder = builder.user_agent(concat!("flarectl/", env!("CARGO_PKG_VERSION")));
        let connecting = builder.map_err(|error| first_cause(&error))?;
        match tokio::time::timeout(self.dial_timeout, connecting.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(first_cause(&error)),
            Err(_) => Err(format!("no connection within {:?}; is the host up and the port open?", self.dial_timeout)),
        }
    }

    /// Judges a failed call; when the connection broke, looks whether the server speaks another protocol: then the
    /// request was certainly not done.
    async fn verdict(&self, endpoint: &Endpoint, status: &Status) -> Verdict {
        let verdict = judge(status);
        let Verdict::Unknown(cause) = verdict else { return verdict };
        match greeting(endpoint, GREETING_PATIENCE).await {
            Greeting::Plausible => Verdict::Unknown(cause),
            // A server that is about to stop may have taken the request before: still unknown.
            Greeting::HungUp => Verdict::Unknown(format!("{cause}; is this the client port?")),
            Greeting::Stranger(cause) => Verdict::Unavailable(cause),
        }
    }
}

fn failure(endpoint: &Endpoint, cause: String) -> Failure {
    Failure { endpoint: endpoint.to_string(), cause }
}

fn no_answer(patience: Duration) -> String {
    // Whole milliseconds: a third of five seconds shall not be printed with nine digits.
    let patience = Duration::from_millis(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
    format!("no answer within {patience:?}")
}
