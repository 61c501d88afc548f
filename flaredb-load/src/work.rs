//! Workloads: what clients ask, and what they take for a good answer. Keys are numbers below a prefix, values random
//! bytes, both the same in every run. Not a model of what is stored: an answer is judged by its size, and a
//! compare-and-set by its success.

use crate::call::{self, UNIMPLEMENTED};
use crate::{Answer, Method, Workload};

/// Pseudo-random numbers, the same in every run (xorshift64*).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which counts as 1 if it is 0.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Puts to random keys.
    Put,
    /// Reads of random keys that are there.
    Get {
        /// From the member's own state, which may be old.
        serializable: bool,
    },
    /// Half puts, half linearizable gets.
    Mixed,
    /// Each client changes a key of its own, whose number is the client's, if it is as the client left it. Its first
    /// call, and the one after an error, compares nothing: what is there then is not known.
    Cas,
    /// So many puts in one transaction, of keys that follow each other.
    Txn {
        /// Puts.
        puts: u64,
    },
    /// A range that holds so many keys.
    Scan {
        /// Keys.
        keys: u64,
    },
    /// The first so many keys of a range that holds more, as a client pages: the answer has to count all of them.
    Page {
        /// Keys.
        keys: u64,
    },
    /// A method that does not exist.
    Nothing,
    /// Each key from `from` on once, in order, `batch` of them in one transaction (1: a plain put).
    Fill {
        /// First key.
        from: u64,
        /// Puts at a time.
        batch: u64,
    },
}

/// A workload over the keys `0..keys` below a prefix.
#[derive(Debug)]
pub struct Work {
    kind: Kind,
    prefix: String,
    keys: u64,
    value_bytes: usize,
    random: Random,
    /// Random bytes that values are cut from: nothing that a compressing server could gain by.
    material: Vec<u8>,
    /// Where a fill stands.
    filled: u64,
    /// One above the largest number of a key that was named.
    named: u64,
    /// By client: the revision of the key it compares and sets, 0 while it does not know it.
    revisions: Vec<u64>,
    /// By client: whether what is in flight is a read.
    reads: Vec<bool>,
    key: Vec<u8>,
}

const MATERIAL_BYTES: usize = 64 << 10;
const DIGITS: usize = 10;

/// The key with this number. Keys have the order of their numbers (below 10^10).
pub fn key(prefix: &str, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + DIGITS);
    write_key(&mut key, prefix, number);
    key
}

fn write_key(key: &mut Vec<u8>, prefix: &str, number: u64) {
    key.extend_from_slice(prefix.as_bytes());
    let mut digits = [b'0'; DIGITS];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key.extend_from_slice(&digits);
}

impl Work {
    /// A workload at its beginning. A call that names several keys needs as many: with fewer it names some beyond
    /// `keys`.
    pub fn new(kind: Kind, prefix: &str, keys: u64, value_bytes: usize) -> Self {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let material = (0..(MATERIAL_BYTES + value_bytes) / 8 + 1).flat_map(|_| random.next().to_le_bytes()).collect();
        let filled = if let Kind::Fill { from, .. } = kind { from } else { 0 };
        Self {
            kind,
            prefix: prefix.to_owned(),
            keys,
            value_bytes,
            random,
            material,
            filled,
            named: 0,
            revisions: Vec::new(),
            reads: Vec::new(),
            key: Vec::new(),
        }
    }

    /// One above the largest number of a key that was named so far: no key from there on was written.
    pub fn named(&self) -> u64 {
        self.named
    }

    fn value(&mut self) -> std::ops::Range<usize> {
        let at = self.random.below(MATERIAL_BYTES as u64) as usize;
        at..at + self.value_bytes
    }

    /// Writes a key into `self.key`.
    fn name(&mut self, number: u64) {
        self.named = self.named.max(number + 1);
        self.key.clear();
        write_key(&mut self.key, &self.prefix, number);
    }

    fn random_key(&mut self) {
        let number = self.random.below(self.keys);
        self.name(number);
    }

    fn put(&mut self, message: &mut Vec<u8>) -> Method {
        let value = self.value();
        call::put_request(message, &self.key, &self.material[value]);
        Method::Put
    }

    fn put_in_txn(&mut self, message: &mut Vec<u8>) {
        let value = self.value();
        call::put_in_txn(message, 2, &self.key, &self.material[value]);
    }

    fn get(&mut self, message: &mut Vec<u8>, serializable: bool) -> Method {
        self.random_key();
        call::get_request(message, &self.key, serializable);
        Method::Range
    }

    fn fill(&mut self, message: &mut Vec<u8>, batch: u64) -> Option<Method> {
        let end = (self.filled + batch).min(self.keys);
        if self.filled >= end {
            return None;
        }
        let numbers = self.filled..end;
        self.filled = end;
        if batch == 1 {
            self.name(numbers.start);
            return Some(self.put(message));
        }
        for number in numbers {
            self.name(number);
            self.put_in_txn(message);
        }
        Some(Method::Txn)
    }
}

/// The entry of a client, made if it is not there.
fn entry<T: Clone + Default>(table: &mut Vec<T>, client: usize) -> &mut T {
    if table.len() <= client {
        table.resize(client + 1, T::default());
    }
    &mut table[client]
}

impl Workload for Work {
    fn next(&mut self, client: usize, message: &mut Vec<u8>) -> Option<Method> {
        Some(match self.kind {
            Kind::Put => {
                self.random_key();
                self.put(message)
            }
            Kind::Get { serializable } => self.get(message, serializable),
            Kind::Mixed => {
                let read = self.random.below(2) == 0;
                *entry(&mut self.reads, client) = read;
                if read {
                    self.get(message, false)
                } else {
                    self.random_key();
                    self.put(message)
                }
            }
            Kind::Cas => {
                let revision = *entry(&mut self.revisions, client);
                self.name(client as u64);
                if revision == 0 {
                    self.put_in_txn(message);
                } else {
                    let value = self.value();
                    call::compare_and_put(message, &self.key, revision, &self.material[value]);
                }
                Method::Txn
            }
            Kind::Txn { puts } => {
                // One after the other from a random one on: a key may not be put twice in one transaction.
                let first = self.random.below(self.keys.saturating_sub(puts) + 1);
                for number in first..first + puts {
                    self.name(number);
                    self.put_in_txn(message);
                }
                Method::Txn
            }
            Kind::Scan { keys } => {
                let first = self.random.below(self.keys - keys + 1);
                self.name(first + keys);
                let end = std::mem::take(&mut self.key);
                self.name(first);
                call::scan_request(message, &self.key, &end, 0);
                Method::Range
            }
            Kind::Page { keys } => {
                let first = self.random.below(self.keys - keys + 1);
                self.name(first);
                // ':' follows '9': the end of all keys below the prefix.
                let end = format!("{}:", self.prefix);
                call::scan_request(message, &self.key, end.as_bytes(), keys);
                Method::Range
            }
            Kind::Nothing => Method::Nothing,
            Kind::Fill { batch, .. } => return self.fill(message, batch),
        })
    }

    fn answered(&mut self, client: usize, answer: &Answer) -> Result<(), String> {
        if self.kind == Kind::Cas {
            // Until the answer has told it.
            *entry(&mut self.revisions, client) = 0;
        }
        match (self.kind, answer.status) {
            (Kind::Nothing, UNIMPLEMENTED) => return Ok(()),
            (Kind::Nothing, status) => return Err(format!("status {status} from a method that does not exist")),
            (_, 0) => {}
            _ => return Err(answer.refusal()),
        }
        let values = match self.kind {
            Kind::Get { .. } => 1,
            Kind::Mixed => u64::from(*entry(&mut self.reads, client)),
            Kind::Scan { keys } | Kind::Page { keys } => keys,
            _ => 0,
        };
        if (answer.length as u64) < values * self.value_bytes as u64 {
            return Err(format!("an answer of {} bytes cannot hold {values} values", answer.length));
        }
        if self.kind == Kind::Cas {
            if !call::succeeded(&answer.head) {
                return Err("a comparison failed that nobody else can have made fail".to_owned());
            }
            *entry(&mut self.revisions, client) = call::revision(&answer.head);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Work};
    use crate::{Answer, Method, Workload, call};

    #[test]
    fn a_fill_names_each_key_once_and_ends() {
        let mut work = Work::new(Kind::Fill { from: 2, batch: 3 }, "p/", 7, 8);
        let mut message = Vec::new();
        assert_eq!(work.next(0, &mut message), Some(Method::Txn));
        message.clear();
        assert_eq!(work.next(1, &mut message), Some(Method::Txn));
        assert_eq!(call::bytes(call::bytes(call::bytes(&message, 2), 2), 1), b"p/0000000005");
        assert_eq!(work.next(0, &mut message), None);
        assert_eq!(work.named(), 7);
        assert_eq!(super::key("p/", 12), b"p/0000000012");
    }

    #[test]
    fn as_few_keys_as_a_call_names_are_enough() {
        let mut message = Vec::new();
        for (kind, method) in [(Kind::Txn { puts: 5 }, Method::Txn), (Kind::Scan { keys: 5 }, Method::Range)] {
            let mut work = Work::new(kind, "p/", 5, 8);
            for client in 0..20 {
                message.clear();
                assert_eq!(work.next(client, &mut message), Some(method));
            }
            assert!(work.named() <= 6, "{kind:?}: the end of a range is one beyond");
        }
    }

    #[test]
    fn a_client_compares_only_what_it_knows() {
        let mut work = Work::new(Kind::Cas, "p/", 1, 8);
        let asked = |work: &mut Work| {
            let mut message = Vec::new();
            assert_eq!(work.next(0, &mut message), Some(Method::Txn));
            call::number(call::bytes(&message, 1), 6)
        };
        let answer = |status, succeeded, revision| {
            let (mut header, mut head) = (Vec::new(), Vec::new());
            call::put_number(&mut header, 3, revision);
            call::put_bytes(&mut head, 1, &header);
            call::put_number(&mut head, 2, succeeded);
            Answer { status, message: None, length: head.len(), head }
        };
        assert_eq!(asked(&mut work), 0);
        assert_eq!(work.answered(0, &answer(0, 1, 7)), Ok(()));
        assert_eq!(asked(&mut work), 7);
        assert!(work.answered(0, &answer(14, 0, 0)).is_err());
        assert_eq!(asked(&mut work), 0, "the call may have been done");
        assert_eq!(work.answered(0, &answer(0, 1, 9)), Ok(()));
        assert_eq!(asked(&mut work), 9);
        assert!(work.answered(0, &answer(0, 0, 10)).is_err());
        assert_eq!(asked(&mut work), 0);
    }
}
