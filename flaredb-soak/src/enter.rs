//! Into a network namespace of our own, before anything else: the program starts itself again under `unshare`. The namespace has
//! no way out, and it is gone with its last process, however that ends: nothing is left to clean up.

use crate::error::{Result, SoakError};
use crate::options::Net;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Set in the environment of the program inside.
const INSIDE: &str = "FLAREDB_SOAK_INSIDE";

/// What `Net::Auto` means here; starts the program again if that needs a namespace, and then does not return.
///
/// # Errors
/// Namespaces were asked for and are not to be had.
pub fn enter(asked: Net) -> Result<Net> {
    if asked == Net::None {
        return Ok(Net::None);
    }
    if std::env::var_os(INSIDE).is_some() {
        return Ok(if asked == Net::Auto { Net::Namespaces } else { asked });
    }
    let flags: &[&str] =
        if rustix::process::geteuid().is_root() { &["--net"] } else { &["--user", "--map-root-user", "--net"] };
    if let Err(why) = possible(flags) {
        if asked == Net::Auto {
            eprintln!("flaredb-soak: no network faults: {why}");
            return Ok(Net::None);
        }
        return Err(SoakError(format!("{why}; --net none does without")));
    }
    let program = std::env::current_exe().map_err(|error| SoakError(format!("this program's path: {error}")))?;
    let error = Command::new("unshare")
        .args(flags)
        .arg("--")
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .env("XTABLES_LOCKFILE", std::env::temp_dir().join(format!("flaredb-soak-xtables-{}", std::process::id())))
        .exec();
    Err(SoakError(format!("unshare: {error}")))
}

/// Tries in a namespace that is gone at once what the run will need.
fn possible(flags: &[&str]) -> std::result::Result<(), String> {
    for tool in ["unshare", "nsenter", "setpriv", "ip", "iptables"] {
        let there = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()));
        if !there {
            return Err(format!("{tool} is not installed (Debian: util-linux, iproute2, iptables)"));
        }
    }
    let output = Command::new("unshare")
        .args(flags)
        .args(["sh", "-c", "ip link set lo up && ip link add type veth && iptables -A OUTPUT -d 192.0.2.1 -j DROP"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("network namespaces do not work here ({})", text.lines().next().unwrap_or("no reason given")))
}
