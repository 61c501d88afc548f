//! `put`, `del`, `compact`: one request that changes something.

use flaredb_proto::etcdserverpb::CompactionRequest;
use flaredb_proto::etcdserverpb::kv_client::KvClient;

use super::{read_stdin, requests};
use crate::cli::{CompactArgs, DelArgs, PutArgs};
use crate::client::Client;
use crate::error::Error;
use crate::output::{self, Format};
use crate::values::bytes;

pub(super) async fn put(client: &Client, format: &Format, args: PutArgs, out: &mut Vec<u8>) -> Result<(), Error> {
    let value = match &args.value {
        Some(_) if args.ignore_value => {
            return Err(Error::Usage("--ignore-value and a value cannot go together".into()));
        }
        None if args.ignore_value => Vec::new(),
        Some(value) if value != "-" => bytes(value.clone()),
        _ => read_stdin("the value")?,
    };
    let request = requests::put(args, value);
    let answer = client.write(async |channel| KvClient::new(channel).put(request).await).await?;
    output::put(out, format, &answer.message);
    Ok(())
}

pub(super) async fn del(client: &Client, format: &Format, args: DelArgs, out: &mut Vec<u8>) -> Result<(), Error> {
    let request = requests::delete_range(args);
    let answer = client
        .write(async |channel| KvClient::new(channel).max_decoding_message_size(usize::MAX).delete_range(request).await)
        .await?;
    output::del(out, format, &answer.message);
    Ok(())
}

pub(super) async fn compact(
    client: &Client,
    format: &Format,
    args: CompactArgs,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let request = CompactionRequest { revision: args.revision, physical: args.physical };
    let answer = client.write(async |channel| KvClient::new(channel).compact(request).await).await?;
    output::compact(out, format, args.revision, &answer.message);
    Ok(())
}
