//! `get`: a read of one key or of a range.

use flaredb_proto::etcdserverpb::kv_client::KvClient;

use super::requests;
use crate::cli::GetArgs;
use crate::client::Client;
use crate::error::Error;
use crate::output::{self, Format, Parts};

pub(super) async fn get(client: &Client, format: &Format, args: GetArgs, out: &mut Vec<u8>) -> Result<(), Error> {
    let parts = match &args {
        GetArgs { count_only: true, .. } => Parts::Count,
        GetArgs { keys_only: true, .. } => Parts::Keys,
        GetArgs { print_value_only: true, .. } => Parts::Values,
        _ => Parts::KeysAndValues,
    };
    let must_exist = args.exists;
    let request = requests::range(args);
    let answer = client
        .read(async |channel| KvClient::new(channel).max_decoding_message_size(usize::MAX).range(request.clone()).await)
        .await?;
    output::get(out, format, parts, &answer.message);
    if must_exist && answer.message.count == 0 { Err(Error::KeyNotFound) } else { Ok(()) }
}
