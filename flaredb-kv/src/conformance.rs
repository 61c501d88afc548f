//! What every [`OrderedStore`] must do, as checks that panic where one does not: the memory store and RocksDB run the same.
//!
//! For tests only (feature `conformance`). It says nothing about durability: that needs crashes, which are the
//! implementation's own tests.
