//! What `flaredb dev status` shows: one row a node.

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

/// One node at one moment, as it travels over the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeReport {
    pub(super) name: String,
    pub(super) client_url: String,
    /// None: the node is down.
    pub(super) up: Option<UpReport>,
}

/// What only a running node can say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UpReport {
    pub(super) role: String,
    pub(super) term: u64,
    pub(super) commit: u64,
    pub(super) applied: u64,
    pub(super) last_index: u64,
    pub(super) data_bytes: u64,
}

/// The rows as a table for people.
pub(super) fn table(nodes: &[NodeReport]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NODE", "STATE", "ROLE", "TERM", "COMMIT", "APPLIED", "LAST INDEX", "CLIENT URL", "DATA SIZE"]);
    for number in [3, 4, 5, 6, 8] {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for node in nodes {
        let cells = match &node.up {
            Some(up) => [
                node.name.clone(),
                "up".into(),
                up.role.clone(),
                up.term.to_string(),
                up.commit.to_string(),
                up.applied.to_string(),
                up.last_index.to_string(),
                node.client_url.clone(),
                size(up.data_bytes),
            ],
            None => {
                let none = || "-".to_owned();
                let (name, url) = (node.name.clone(), node.client_url.clone());
                [name, "down".into(), none(), none(), none(), none(), none(), url, none()]
            }
        };
        table.add_row(cells);
    }
    table.to_string()
}

/// Bytes for people, in whole tenths.
fn size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit {
            // Bytes of one database: times ten fits.
            let tenths = bytes.saturating_mul(10) / unit;
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (20 << 20, "20.0 MiB"), (u64::MAX, "1717986918.3 GiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_row_for_each_node_up_or_down() {
        let up = UpReport { role: "leader".into(), term: 2, commit: 7, applied: 7, last_index: 8, data_bytes: 2048 };
        let row = |name: &str, up| NodeReport { name: name.into(), client_url: format!("http://{name}"), up };
        let text = table(&[row("n1", Some(up)), row("n2", None)]);
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<Vec<String>> = text.lines().map(words).collect();
        assert!(lines.contains(&words("n1 up leader 2 7 7 8 http://n1 2.0 KiB")), "{text}");
        assert!(lines.contains(&words("n2 down - - - - - http://n2 -")), "{text}");
    }
}
