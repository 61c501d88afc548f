//! One file a command: the request goes out, the answer goes to `output/`.

pub(crate) mod bench;
pub(crate) mod cluster;
mod get;
mod hash;
pub(crate) mod health;
mod member;
pub mod requests;
mod status;
mod txn;
mod write;

use std::io::{IsTerminal, Read};

use clap::CommandFactory;

use crate::cli::{Cli, Command, EndpointCommand, GlobalArgs, MemberCommand, WriteOut};
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::output::Format;

/// Runs the command; what it prints is appended to `out`, also when it fails afterwards.
pub async fn run(cli: Cli, out: &mut Vec<u8>) -> Result<(), Error> {
    let global = &cli.global;
    match cli.command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "flarectl", out);
            Ok(())
        }
        Command::Version => {
            out.extend_from_slice(concat!("flarectl ", env!("CARGO_PKG_VERSION"), "\nAPI etcd v3\n").as_bytes());
            Ok(())
        }
        Command::Put(args) => write::put(&client(global)?, &format(global, WriteOut::Simple), args, out).await,
        Command::Get(args) => get::get(&client(global)?, &format(global, WriteOut::Simple), args, out).await,
        Command::Del(args) => write::del(&client(global)?, &format(global, WriteOut::Simple), args, out).await,
        Command::Txn(args) => txn::txn(&client(global)?, &format(global, WriteOut::Simple), args, out).await,
        Command::Compact(args) => write::compact(&client(global)?, &format(global, WriteOut::Simple), args, out).await,
        Command::Status(args) => {
            status::status(&client(global)?, &format(global, WriteOut::Table), args.endpoints_only, out).await
        }
        Command::Member(MemberCommand::List { consistency }) => {
            member::list(&client(global)?, &format(global, WriteOut::Simple), consistency, out).await
        }
        Command::Hash(args) => {
            hash::hash(&client(global)?, &format(global, WriteOut::Table), args.rev, args.endpoints_only, out).await
        }
        Command::Health(args) => {
            health::health(&client(global)?, &format(global, WriteOut::Simple), args.endpoints_only, out).await
        }
        Command::Endpoint(EndpointCommand::Status(args)) => {
            status::status(&client(global)?, &format(global, WriteOut::Simple), !args.cluster, out).await
        }
        Command::Endpoint(EndpointCommand::Health(args)) => {
            health::health(&client(global)?, &format(global, WriteOut::Simple), !args.cluster, out).await
        }
        Command::Bench(args) => {
            bench::refuse_tls(&endpoints(global))?;
            bench::bench(&client(global)?, &format(global, WriteOut::Simple), &args, out).await
        }
        Command::Endpoint(EndpointCommand::Hashkv { which, rev }) => {
            hash::hash(&client(global)?, &format(global, WriteOut::Simple), rev, !which.cluster, out).await
        }
    }
}

fn format(global: &GlobalArgs, default: WriteOut) -> Format {
    Format { write_out: global.write_out.unwrap_or(default), decode: global.decode, hex: global.hex }
}

/// The endpoints of the command line, else of the environment, else of this machine, as they were typed.
fn endpoints(global: &GlobalArgs) -> String {
    let from_environment = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    global
        .endpoints
        .clone()
        .or_else(|| from_environment("FLARECTL_ENDPOINTS"))
        .or_else(|| from_environment("ETCDCTL_ENDPOINTS"))
        .unwrap_or_else(|| "127.0.0.1:2379".to_owned())
}

fn client(global: &GlobalArgs) -> Result<Client, Error> {
    Ok(Client {
        endpoints: Endpoint::parse_list(&endpoints(global)).map_err(Error::Usage)?,
        dial_timeout: global.dial_timeout,
        command_timeout: global.command_timeout,
    })
}

/// All of stdin, for a value. A terminal is no file: waiting in silence for a line would look like a hang.
fn read_stdin(what: &str) -> Result<Vec<u8>, Error> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Error::Usage(format!("{what} is missing: give it as an argument or on stdin")));
    }
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes).map_err(|error| Error::Usage(format!("cannot read stdin: {error}")))?;
    Ok(bytes)
}
