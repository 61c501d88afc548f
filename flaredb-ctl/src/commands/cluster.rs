//! Who is asked by the commands that ask every member: `status`, `hash`, `health`.
//!
//! Members are known by the ids they answer with, because an endpoint given as `127.0.0.1:2379` and a member that
//! advertises `http://localhost:2379` can be one and the same.

use flaredb_proto::etcdserverpb::cluster_client::ClusterClient;
use flaredb_proto::etcdserverpb::{Member, MemberListRequest};

use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::Error;

/// One member or endpoint and what it answered.
#[derive(Debug)]
pub(crate) struct Row<T> {
    /// Its name; empty when it is not known.
    pub(crate) name: String,
    /// Its id; 0 when it is not known.
    pub(crate) id: u64,
    /// Where it was asked; the first client URL, or empty, when it was not reached.
    pub(crate) endpoint: String,
    /// What it answered, or the first cause.
    pub(crate) answer: Result<T, String>,
}

/// Asks the given endpoints and, unless `endpoints_only`, all members that the first reachable one of them knows.
/// `ask` is sent to one endpoint; `id_of` takes the member's id from the answer.
pub(crate) async fn ask_all<T: 'static>(
    client: &Client,
    endpoints_only: bool,
    ask: impl AsyncFn(Client) -> Result<T, Error> + Clone + 'static,
    id_of: impl Fn(&T) -> u64,
) -> Vec<Row<T>> {
    let members = if endpoints_only { Vec::new() } else { members(client).await };
    let mut rows = Vec::new();
    for (endpoint, answer) in ask_each(client, &client.endpoints, &ask).await {
        let id = answer.as_ref().map_or(0, &id_of);
        let known = members.iter().find(|member| if id == 0 { advertises(member, &endpoint) } else { member.id == id });
        let name = known.map(|member| member.name.clone()).unwrap_or_default();
        let id = known.map_or(id, |member| member.id);
        // Two of the endpoints may lead to one member; an answer counts more than a failure.
        match rows.iter_mut().find(|row: &&mut Row<T>| !endpoints_only && id != 0 && row.id == id) {
            Some(row) if row.answer.is_err() => *row = Row { name, id, endpoint: endpoint.to_string(), answer },
            Some(_) => {}
            None => rows.push(Row { name, id, endpoint: endpoint.to_string(), answer }),
        }
    }
    // Then the members that no given endpoint led to.
    let mut missing = Vec::new();
    for member in &members {
        if rows.iter().any(|row| row.id == member.id) {
            continue;
        }
        match member.client_ur_ls.first().map(|url| Endpoint::parse(url)) {
            Some(Ok(endpoint)) => missing.push((member, endpoint)),
            Some(Err(cause)) => {
                let endpoint = member.client_ur_ls.first().cloned().unwrap_or_default();
                rows.push(Row { name: member.name.clone(), id: member.id, endpoint, answer: Err(cause) });
            }
            None => rows.push(Row {
                name: member.name.clone(),
                id: member.id,
                endpoint: String::new(),
                answer: Err("its client URL is not known: it has not been seen since the asked member started".into()),
            }),
        }
    }
    let endpoints: Vec<Endpoint> = missing.iter().map(|(_, endpoint)| endpoint.clone()).collect();
    let answers = ask_each(client, &endpoints, &ask).await;
    for ((member, _), (endpoint, answer)) in missing.into_iter().zip(answers) {
        rows.push(Row { name: member.name.clone(), id: member.id, endpoint: endpoint.to_string(), answer });
    }
    if !endpoints_only {
        // By name, as people look for them; endpoints that belong to no known member come last.
        rows.sort_by(|a, b| (a.name.is_empty(), &a.name, a.id).cmp(&(b.name.is_empty(), &b.name, b.id)));
    }
    rows
}

/// The members as one of the endpoints knows them, without asking a leader: this must work when there is none. Nobody
/// reachable gives an empty list; the rows of the endpoints then say why.
async fn members(client: &Client) -> Vec<Member> {
    let request = MemberListRequest { linearizable: false };
    let answer = client.read(async |channel| ClusterClient::new(channel).member_list(request).await).await;
    answer.map(|answer| answer.message.members).unwrap_or_default()
}

fn advertises(member: &Member, endpoint: &Endpoint) -> bool {
    member.client_ur_ls.iter().any(|url| Endpoint::parse(url).as_ref() == Ok(endpoint))
}

/// Asks all at once: one that does not answer shall not delay the others. Answers come in the order of `endpoints`.
async fn ask_each<T: 'static>(
    client: &Client,
    endpoints: &[Endpoint],
    ask: &(impl AsyncFn(Client) -> Result<T, Error> + Clone + 'static),
) -> Vec<(Endpoint, Result<T, String>)> {
    let tasks = tokio::task::LocalSet::new();
    let handles: Vec<_> = endpoints
        .iter()
        .map(|endpoint| {
            let (ask, client) = (ask.clone(), client.only(endpoint.clone()));
            (endpoint.clone(), tasks.spawn_local(async move { ask(client).await }))
        })
        .collect();
    tasks
        .run_until(async move {
            let mut answers = Vec::new();
            for (endpoint, handle) in handles {
                let answer = match handle.await {
                    Ok(answer) => answer.map_err(|error| cause(&error)),
                    Err(error) => Err(error.to_string()),
                };
                answers.push((endpoint, answer));
            }
            answers
        })
        .await
}

/// The cause alone: the row names the endpoint already.
fn cause(error: &Error) -> String {
    match error {
        Error::Refused(failure) | Error::OutcomeUnknown(failure) => failure.cause.clone(),
        Error::Unavailable(failures) => match failures.as_slice() {
            [failure] => failure.cause.clone(),
            _ => error.to_string(),
        },
        _ => error.to_string(),
    }
}

/// The error of a command that asked all members and did not get an answer from each.
pub(crate) fn all_answered<T>(rows: &[Row<T>]) -> Result<(), Error> {
    let silent = rows.iter().filter(|row| row.answer.is_err()).count();
    if silent == 0 {
        return Ok(());
    }
    Err(Error::SomeUnavailable { silent, asked: rows.len() })
}
