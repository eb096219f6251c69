//! Adapter to object stores: the lake and the star, each a [`Store`] of immutable files that manifests name.
//!
//! In reading order:
//! * [`store`]: create-only objects in a folder, a bucket or memory;
//! * [`mod@claim`]: the time in a run's keys belongs to that run alone;
//! * [`writer`] and [`reader`]: Parquet files, with size and SHA-256 in the manifest and checked before parsing;
//! * [`mod@commit`] and [`manifests`]: one create-only put commits a run; chains of manifests are checked link by link;
//! * [`head`]: the newest state of a lake or star, which a run starts from;
//! * [`state`]: a table or model as of a manifest, newest entry per key;
//! * [`mod@upkeep`]: many small files become few, and the key index says where entries are, so that a state stays cheap;
//! * [`mod@compact`]: all of that at once, as a run of its own;
//! * [`digest`], [`keys`], [`difference`] and [`multiset`]: which rows are new, differ or are gone;
//! * [`spill`] and [`partitions`]: files for what does not fit in memory;
//! * [`quarantine`]: which rows are refused;
//! * [`vacuum`]: what no run and no reader can need any more.
//!
//! The crate reads no environment, no random source, and no clock but to keep within a time that it is given. It never overwrites
//! an object, and deletes none but the probe of [`Store::probe_writable`], what [`vacuum::remove`] is given, and what
//! [`mod@upkeep`] gives up of its own.

pub mod claim;
pub mod commit;
pub mod compact;
pub mod difference;
pub mod digest;
pub mod head;
pub mod keys;
pub mod manifests;
pub mod multiset;
pub mod partitions;
pub mod quarantine;
pub mod reader;
pub mod spill;
pub mod state;
pub mod store;
pub mod upkeep;
pub mod vacuum;
pub mod writer;

mod blocks;
mod bucket;
mod content;
mod failure;
mod folder;
mod index;
mod key_text;
mod layout;
mod location;
mod part;
mod partial;
mod renewal;
mod success;
mod upload;

pub use claim::claim;
pub use commit::{Commit, commit};
pub use compact::compact;
pub use difference::{Difference, Gone, tombstones};
pub use digest::{Digests, KeyDigest, RowDigest};
pub use head::Head;
pub use key_text::{key_text, short_key_text};
pub use keys::{Keys, Mark};
pub use manifests::Stored;
pub use multiset::Multiset;
pub use partitions::Partitions;
pub use quarantine::Quarantine;
pub use spill::Spill;
pub use state::State;
pub use store::{CreateOutcome, Store};
pub use upkeep::upkeep;
pub use writer::{FileWriter, PartNumbers, WriterOptions};
