//! I45, as far as observations show it: when the faults are over the core agrees at the end, and a write and a linearizable read
//! have succeeded through each of its nodes. How long that may take is the world's business, which ends the run.

use super::violation;
use crate::history::{Op, Outcome, Record};
use crate::observed::Violation;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// By node: a write, a read.
    core: Option<BTreeMap<u64, (bool, bool)>>,
}

impl Liveness {
    pub(crate) fn healed(&mut self, core: &[u64]) {
        self.core = Some(core.iter().map(|node| (*node, (false, false))).collect());
    }

    pub(crate) fn core(&self) -> Vec<u64> {
        self.core.iter().flat_map(|core| core.keys().copied()).collect()
    }

    pub(crate) fn answered(&mut self, record: &Record) {
        let Some(done) = self.core.as_mut().and_then(|core| core.get_mut(&record.node)) else { return };
        match (&record.op, &record.outcome) {
            (Op::Write(_), Outcome::Written(Ok(_))) => done.0 = true,
            (Op::Read(request), Outcome::Read { result: Ok(_), .. }) if !request.serializable => done.1 = true,
            _ => {}
        }
    }

    pub(crate) fn ended(&self, converged: bool) -> Result<(), Violation> {
        let Some(core) = &self.core else { return Ok(()) };
        if !converged {
            return Err(violation("liveness", "the healed core does not come to the same state"));
        }
        match core.iter().find(|(_, (write, read))| !write || !read) {
            Some((node, (write, read))) => {
                let what = format!("through n{node} of the healed core: a write succeeded: {write}, a read: {read}");
                Err(violation("liveness", what))
            }
            None => Ok(()),
        }
    }
}
