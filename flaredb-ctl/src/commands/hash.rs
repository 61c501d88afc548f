//! `hash`: do the members have the same data.
//!
//! Members that are asked without a revision each answer for their own newest one, and a busy cluster's members are
//! never all at the same. So those that are ahead are asked once more, for the newest revision that all have.

use flaredb_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use flaredb_proto::etcdserverpb::{HashKvRequest, HashKvResponse};

use super::cluster::{self, Row};
use crate::client::Client;
use crate::error::Error;
use crate::output::{self, Format};

pub(super) async fn hash(
    client: &Client,
    format: &Format,
    revision: i64,
    endpoints_only: bool,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut rows = ask_at(client, endpoints_only, revision).await;
    let revisions = || rows.iter().filter_map(|row| row.answer.as_ref().ok()).map(hashed_revision);
    if let (0, Some(newest_of_all)) = (revision, revisions().min())
        && revisions().any(|revision| revision != newest_of_all)
    {
        rows = ask_at(client, endpoints_only, newest_of_all).await;
    }
    output::hash(out, format, &rows);
    if let Some(difference) = difference(&rows) {
        return Err(Error::Other(difference));
    }
    cluster::all_answered(&rows)
}

async fn ask_at(client: &Client, endpoints_only: bool, revision: i64) -> Vec<Row<HashKvResponse>> {
    let ask = async move |client: Client| {
        let call = async |channel| MaintenanceClient::new(channel).hash_kv(HashKvRequest { revision }).await;
        let mut answer = client.read(call).await?.message;
        if answer.hash_revision == 0 {
            // Servers before 3.6 do not say it.
            let newest = answer.header.as_ref().map_or(0, |header| header.revision);
            answer.hash_revision = if revision == 0 { newest } else { revision };
        }
        Ok(answer)
    };
    cluster::ask_all(client, endpoints_only, ask, |answer| answer.header.as_ref().map_or(0, |header| header.member_id))
        .await
}

fn hashed_revision(answer: &HashKvResponse) -> i64 {
    answer.hash_revision
}

/// Says which two members differ. Hashes cover the history that is kept, so only answers for the same revision and the
/// same compaction can be compared.
fn difference(rows: &[Row<HashKvResponse>]) -> Option<String> {
    let answers = || rows.iter().filter_map(|row| Some((&row.endpoint, row.answer.as_ref().ok()?)));
    let same = |a: &HashKvResponse, b: &HashKvResponse| {
        (a.hash_revision, a.compact_revision) == (b.hash_revision, b.compact_revision)
    };
    answers().find_map(|(endpoint, answer)| {
        let (other, _) = answers().find(|(_, other)| same(answer, other) && answer.hash != other.hash)?;
        Some(format!("{endpoint} and {other} have different data at revision {}", answer.hash_revision))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(endpoint: &str, hash: u32, hash_revision: i64, compact_revision: i64) -> Row<HashKvResponse> {
        let answer = HashKvResponse { header: None, hash, compact_revision, hash_revision };
        Row { name: String::new(), id: 0, endpoint: endpoint.to_owned(), answer: Ok(answer) }
    }

    #[test]
    fn only_equal_revisions_and_compactions_are_compared() {
        let table = [
            (vec![row("a", 1, 5, 2), row("b", 1, 5, 2)], None),
            (vec![row("a", 1, 5, 2), row("b", 2, 6, 2)], None),
            (vec![row("a", 1, 5, 2), row("b", 2, 5, 3)], None),
            (vec![row("a", 1, 5, 2), row("b", 1, 5, 2), row("c", 2, 5, 2)], Some("a and c")),
            (vec![], None),
        ];
        for (rows, expected) in table {
            let expected = expected.map(|who| format!("{who} have different data at revision 5"));
            assert_eq!(difference(&rows), expected, "{rows:?}");
        }
    }
}
