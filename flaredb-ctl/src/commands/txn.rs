//! `txn`: a transaction from the arguments or from stdin.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};

use flaredb_proto::etcdserverpb::kv_client::KvClient;
use flaredb_proto::etcdserverpb::{TxnRequest, request_op::Request};

use crate::cli::TxnArgs;
use crate::client::Client;
use crate::error::Error;
use crate::output::{self, Format};
use crate::txn_parser::{ParseError, parse_compare, parse_op, read_txn};
use crate::values::bytes;

pub(super) async fn txn(client: &Client, format: &Format, args: TxnArgs, out: &mut Vec<u8>) -> Result<(), Error> {
    let require_success = args.require_success;
    let request = request(args)?;
    let call = async |channel, request| KvClient::new(channel).max_decoding_message_size(usize::MAX).txn(request).await;
    // The server decides which of the two lists runs: one write in either makes it a write.
    let answer = if changes_nothing(&request) {
        client.read(async |channel| call(channel, request.clone()).await).await?
    } else {
        client.write(async |channel| call(channel, request).await).await?
    };
    output::txn(out, format, &answer.message);
    if require_success && !answer.message.succeeded { Err(Error::Conflict) } else { Ok(()) }
}

fn changes_nothing(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

fn request(args: TxnArgs) -> Result<TxnRequest, Error> {
    if args.compares.is_empty() && args.then.is_empty() && args.otherwise.is_empty() {
        let stdin = std::io::stdin();
        let mut stderr = std::io::stderr();
        let ask = args.interactive || stdin.is_terminal();
        let prompts: Option<&mut dyn Write> = if ask { Some(&mut stderr) } else { None };
        return read_txn(stdin.lock(), prompts).map_err(Error::Usage);
    }
    Ok(TxnRequest {
        compare: parse_all(args.compares, parse_compare)?,
        success: parse_all(args.then, parse_op)?,
        failure: parse_all(args.otherwise, parse_op)?,
    })
}

fn parse_all<T>(texts: Vec<OsString>, parse: impl Fn(&[u8]) -> Result<T, ParseError>) -> Result<Vec<T>, Error> {
    let parse_one = |text: OsString| {
        let text = bytes(text);
        parse(&text).map_err(|error| match error {
            ParseError::OpenQuote => Error::Usage(format!("{error}: {}", String::from_utf8_lossy(&text))),
            ParseError::Malformed(_) => Error::Usage(error.to_string()),
        })
    };
    texts.into_iter().map(parse_one).collect()
}
