//! Table files: what a WAL held, sorted and checksummed in blocks, so that the WAL can be used again.
//!
//! ```text
//! sealed head: table's number | entries up to here are gone | entries from here on are replaced | blocks
//!              a block in the head: first index | last index | offset | length | checksum
//! blocks: first the rows of raft_state (as index 0), then records
//! ```
//! A table changes what older tables say: first both cuts, then its rows. A block that cannot be read makes its entries
//! unreadable, never older versions of them visible. A head that cannot be read is final.

#![expect(clippy::indexing_slicing, reason = "a block being filled starts within the blocks")]

use super::bytes::{Taker, checksum, put_counted, put_number, seal, unseal};
use super::rows::{LogValue, Rows, StateRow, Truncated};
use super::sectors::{DiskError, FileId, SECTOR, SimDisk, len_u64};
use flaredb_raft::{ConfState, HardState};

const HEAD_SEED: u64 = 0x7461_626c;
/// Records of a block, at least one.
const BLOCK_BYTES: usize = SECTOR / 2;
/// The rows of raft_state, in the order in which they are written.
const STATES: [u8; 3] = [HardState::TAG, ConfState::TAG, Truncated::TAG];

pub(super) fn name(number: u64) -> String {
    format!("table-{number}")
}

/// A table being made.
#[derive(Debug)]
pub(super) struct TableBuilder {
    number: u64,
    cut_to: u64,
    cut_from: u64,
    heads: Vec<[u64; 5]>,
    blocks: Vec<u8>,
    /// Start of the block being filled, and its first and last index.
    open: Option<(usize, u64, u64)>,
}

impl TableBuilder {
    /// `cut_from`: entries of older tables from here on do not count; `u64::MAX` for none.
    pub(super) fn new(number: u64, cut_to: u64, cut_from: u64) -> Self {
        Self { number, cut_to, cut_from, heads: Vec::new(), blocks: Vec::new(), open: None }
    }

    /// All rows of raft_state; before the first record.
    pub(super) fn states(&mut self, hard: &HardState, conf: &ConfState, truncated: &Truncated) {
        self.open = Some((self.blocks.len(), 0, 0));
        for row in [hard.encode(), conf.encode(), truncated.encode()] {
            put_counted(&mut self.blocks, &row);
        }
        self.close_block();
    }

    pub(super) fn record(&mut self, index: u64, record: &[u8]) {
        let (start, first, _) = self.open.unwrap_or((self.blocks.len(), index, index));
        put_number(&mut self.blocks, index);
        put_counted(&mut self.blocks, record);
        self.open = Some((start, first, index));
        if self.blocks.len() - start >= BLOCK_BYTES {
            self.close_block();
        }
    }

    fn close_block(&mut self) {
        let Some((start, first, last)) = self.open.take() else { return };
        let block = &self.blocks[start..];
        let sum = checksum(block_seed(self.number, first), block);
        self.heads.push([first, last, len_u64(start), len_u64(block.len()), sum]);
    }

    /// The file's content.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.close_block();
        let mut head = Vec::new();
        for number in [self.number, self.cut_to, self.cut_from] {
            put_number(&mut head, number);
        }
        for number in self.heads.iter().flatten() {
            put_number(&mut head, *number);
        }
        let mut out = seal(HEAD_SEED, &head);
        out.extend_from_slice(&self.blocks);
        out
    }
}

/// Adds what the table says to `rows`. The error says why nothing of it can be known.
pub(super) fn read(disk: &SimDisk, number: u64, rows: &mut Rows) -> Result<(), String> {
    let table = Table::open(disk, number)?;
    rows.cut_to(table.cut_to);
    rows.cut_from(table.cut_from);
    for block in &table.blocks {
        match table.read_block(disk, block) {
            Ok(content) if block.first == 0 => {
                let mut rest = Taker(&content);
                for tag in STATES {
                    let row = rest.counted().ok_or_else(|| format!("{}: no row {tag}", name(number)))?;
                    rows.state.insert(tag, Ok(row.to_vec()));
                }
            }
            Ok(content) => {
                let mut rest = Taker(&content);
                while let (Some(index), Some(record)) = (rest.number(), rest.counted()) {
                    rows.put(index, record);
                }
            }
            Err(error) if block.first == 0 => {
                rows.state.extend(STATES.map(|tag| (tag, Err(error.to_string()))));
            }
            Err(error) => {
                let lost = block.first..=block.last;
                rows.log.extend(lost.map(|index| (index, LogValue::Unreadable(error.to_string()))));
            }
        }
    }
    Ok(())
}

/// Reads every block, as a compaction does.
pub(super) fn verify(disk: &SimDisk, number: u64) -> Result<(), DiskError> {
    let table = Table::open(disk, number).map_err(DiskError::Corrupt)?;
    table.blocks.iter().try_for_each(|block| table.read_block(disk, block).map(drop))
}

struct Table {
    number: u64,
    file: FileId,
    cut_to: u64,
    cut_from: u64,
    blocks: Vec<Block>,
    /// Where the blocks begin.
    base: usize,
}

struct Block {
    first: u64,
    last: u64,
    offset: usize,
    length: usize,
    sum: u64,
}

impl Table {
    fn open(disk: &SimDisk, number: u64) -> Result<Self, String> {
        let name = name(number);
        let file = disk.find(&name).ok_or_else(|| format!("{name} is missing"))?;
        let wrong = |what: &str| format!("{name}: {what}");
        let start = disk.read(file, 0, 16.min(disk.len(file))).map_err(|error| error.to_string())?;
        let length = start.get(8..).and_then(|rest| Taker(rest).size());
        let base = length.and_then(|length| length.checked_add(16)).filter(|base| *base <= disk.len(file));
        let base = base.ok_or_else(|| wrong("its head is damaged"))?;
        let head = disk.read(file, 0, base).map_err(|error| error.to_string())?;
        let head = unseal(HEAD_SEED, &head).ok_or_else(|| wrong("its head is damaged"))?;
        let table = Self::parse(&mut Taker(head), file, base).ok_or_else(|| wrong("its head makes no sense"))?;
        if table.number == number { Ok(table) } else { Err(wrong(&format!("holds table {}", table.number))) }
    }

    fn parse(rest: &mut Taker<'_>, file: FileId, base: usize) -> Option<Self> {
        let (number, cut_to, cut_from) = (rest.number()?, rest.number()?, rest.number()?);
        let mut blocks = Vec::new();
        while !rest.0.is_empty() {
            let (first, last) = (rest.number()?, rest.number()?);
            blocks.push(Block { first, last, offset: rest.size()?, length: rest.size()?, sum: rest.number()? });
        }
        Some(Self { number, file, cut_to, cut_from, blocks, base })
    }

    fn read_block(&self, disk: &SimDisk, block: &Block) -> Result<Vec<u8>, DiskError> {
        let content = disk.read(self.file, self.base + block.offset, block.length)?;
        if checksum(block_seed(self.number, block.first), &content) == block.sum {
            return Ok(content);
        }
        Err(DiskError::Corrupt(format!("{}: block {}..={} is damaged", name(self.number), block.first, block.last)))
    }
}

fn block_seed(table: u64, first: u64) -> u64 {
    table.rotate_left(40) ^ first
}
