//! One line on a terminal that says how far it is.

use crate::workload::Shared;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

/// Draws until it is dropped (aborted); nothing if standard error is no terminal.
pub(crate) async fn bar(shared: Arc<Shared>, seconds: u64) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let at = (shared.events.now() / 1_000_000).min(seconds);
        let filled = usize::try_from(at * 30 / seconds.max(1)).unwrap_or(0);
        let line = format!(
            "\r\x1b[K[{}{}] {at}/{seconds} s  {} requests  {}",
            "#".repeat(filled),
            "-".repeat(30_usize.saturating_sub(filled)),
            shared.sent(),
            shared.events.current().chars().take(60).collect::<String>()
        );
        // A terminal that is gone is no reason to stop.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Takes the line away.
pub(crate) fn clear() {
    if std::io::stderr().is_terminal() {
        let _ = std::io::stderr().write_all(b"\r\x1b[K");
    }
}
