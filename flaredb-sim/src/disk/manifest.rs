//! Which tables and which WALs make up the log, and how a new state of that comes about: step by step, each of which a crash
//! may follow.

use super::bytes::{Taker, put_number, seal, unseal};
use super::sectors::{DiskError, SimDisk};
use super::table;

const NAME: &str = "manifest";
const NEW_NAME: &str = "manifest-new";
const SEED: u64 = 0x6d61_6e69;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// In the order in which they count.
    pub(super) tables: Vec<u64>,
    /// The first WAL that is not in a table; the one after it may exist too.
    pub(super) oldest_wal: u64,
    /// Sequence of the first frame there.
    pub(super) sequence: u64,
    pub(super) next_table: u64,
}

impl Manifest {
    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for number in [self.oldest_wal, self.sequence, self.next_table] {
            put_number(&mut body, number);
        }
        for table in &self.tables {
            put_number(&mut body, *table);
        }
        seal(SEED, &body)
    }

    pub(super) fn read(disk: &SimDisk) -> Result<Self, String> {
        let file = disk.find(NAME).ok_or("the manifest is missing")?;
        let content = disk.read(file, 0, disk.len(file)).map_err(|error| error.to_string())?;
        let body = unseal(SEED, &content).ok_or("the manifest is damaged")?;
        let mut rest = Taker(body);
        let numbers = (rest.number(), rest.number(), rest.number());
        let (Some(oldest_wal), Some(sequence), Some(next_table)) = numbers else {
            return Err("the manifest makes no sense".to_owned());
        };
        let tables = std::iter::from_fn(|| rest.number()).collect();
        Ok(Self { tables, oldest_wal, sequence, next_table })
    }

    /// Removes tables that no manifest names any more: leftovers of a crash.
    pub(super) fn tidy(&self, disk: &SimDisk) -> Result<(), DiskError> {
        let kept: Vec<String> = self.tables.iter().map(|number| table::name(*number)).collect();
        for name in disk.list() {
            if name == NEW_NAME || (name.starts_with("table-") && !kept.contains(&name)) {
                disk.delete(&name)?;
            }
        }
        Ok(())
    }
}

/// A table on its way to the disk, after which `after` is the manifest.
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) after: Manifest,
    table: u64,
    content: Vec<u8>,
    obsolete: Vec<u64>,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    WriteTable,
    SyncTable,
    WriteManifest,
    Switch,
    Tidy,
}

impl Flush {
    /// `content` becomes a table after those of `before`, or in place of them all if `replaces_all`.
    pub(super) fn new(before: &Manifest, content: Vec<u8>, replaces_all: bool, wal: u64, sequence: u64) -> Self {
        let table = before.next_table;
        let mut after = Manifest { oldest_wal: wal, sequence, next_table: table + 1, ..before.clone() };
        let obsolete = if replaces_all { std::mem::take(&mut after.tables) } else { Vec::new() };
        after.tables.push(table);
        Self { after, table, content, obsolete, step: Step::WriteTable }
    }

    /// Takes a step; true if it was the last one.
    pub(super) fn advance(&mut self, disk: &SimDisk) -> Result<bool, DiskError> {
        self.step = match self.step {
            Step::WriteTable => {
                let file = disk.create(&table::name(self.table))?;
                disk.write(file, 0, &self.content)?;
                Step::SyncTable
            }
            Step::SyncTable => {
                let name = table::name(self.table);
                disk.sync(disk.find(&name).ok_or(DiskError::Missing(name))?)?;
                disk.sync_names()?;
                Step::WriteManifest
            }
            Step::WriteManifest => {
                let file = disk.create(NEW_NAME)?;
                disk.write(file, 0, &self.after.encode())?;
                disk.sync(file)?;
                Step::Switch
            }
            Step::Switch => {
                disk.rename(NEW_NAME, NAME)?;
                disk.sync_names()?;
                Step::Tidy
            }
            Step::Tidy => {
                for number in &self.obsolete {
                    disk.delete(&table::name(*number))?;
                }
                return Ok(true);
            }
        };
        Ok(false)
    }
}
