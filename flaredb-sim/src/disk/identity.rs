//! Whose disk it is: written once, when the disk is made, and last, so that a disk without it is one that never was in use.

use super::bytes::{Taker, put_number, seal, unseal};
use super::sectors::{DiskError, SimDisk};

const NAME: &str = "identity";
const NEW_NAME: &str = "identity-new";
const SEED: u64 = 0x6964_656e;

/// The member that opens a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Must be the disk's.
    pub cluster_id: u64,
    /// Must be the disk's.
    pub member_id: u64,
    /// Must be the disk's.
    pub region_id: u64,
    /// Rising; written when the disk is made.
    pub voters: Vec<u64>,
}

/// Writes the identity, atomically, and makes it durable together with every name on the disk.
pub(super) fn write(disk: &SimDisk, identity: &Identity, storage_id: u64) -> Result<(), DiskError> {
    let mut body = Vec::new();
    for number in [identity.cluster_id, identity.member_id, identity.region_id, storage_id] {
        put_number(&mut body, number);
    }
    let file = disk.create(NEW_NAME)?;
    disk.write(file, 0, &seal(SEED, &body))?;
    disk.sync(file)?;
    disk.rename(NEW_NAME, NAME)?;
    disk.sync_names()
}

/// The disk's random number if it is this member's; None if it is nobody's. The error says why it cannot be used.
pub(super) fn read(disk: &SimDisk, identity: &Identity) -> Result<Option<u64>, String> {
    let Some(file) = disk.find(NAME) else { return Ok(None) };
    let content = disk.read(file, 0, disk.len(file)).map_err(|error| error.to_string())?;
    let mut rest = Taker(unseal(SEED, &content).ok_or("the identity is damaged")?);
    let Identity { cluster_id, member_id, region_id, voters: _ } = identity;
    for (what, ours) in [("cluster", cluster_id), ("member", member_id), ("region", region_id)] {
        let found = rest.number().ok_or("the identity makes no sense")?;
        if found != *ours {
            return Err(format!("the disk belongs to {what} {found}, not {ours}"));
        }
    }
    rest.number().map(Some).ok_or_else(|| "the identity makes no sense".to_owned())
}
