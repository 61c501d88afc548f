//! SIGTERM and SIGINT: the first one asks for a clean stop, a second one ends the process at once. Both are safe: what
//! was acknowledged is on disk.

use std::{future, io, thread};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

/// Exit code when a second signal cuts a clean stop short.
const CUT_SHORT: i32 = 1;

/// Calls `stop` with the name of the first signal. `hangup`: a closed terminal counts too.
///
/// # Errors
/// The operating system gives no thread or no signal handler.
pub fn watch(hangup: bool, stop: impl FnOnce(&'static str) + Send + 'static) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    // Registered here and not on the thread, so that no signal is missed once this has returned.
    let mut signals = {
        let _inside = runtime.enter();
        Signals::register(hangup)?
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            stop(signals.next().await);
            let signal = signals.next().await;
            tracing::warn!(signal, "second signal: not waiting for the clean stop");
            std::process::exit(CUT_SHORT);
        });
    })?;
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    fn register(hangup: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: if hangup { Some(signal(SignalKind::hangup())?) } else { None },
        })
    }

    async fn next(&mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = hangup => "SIGHUP",
        }
    }
}
