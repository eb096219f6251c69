//! An unfinished base: the state of a table that a full read in chunks has begun to replace. No reader of states sees it.

use serde::{Deserialize, Serialize};

use crate::manifest::{CaptureState, RelationRun};
use crate::schema::TableSchema;

/// A full read in chunks on its way. Every manifest carries it until the one that closes the base, or drops it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The table's columns and key, as all chunks have them.
    #[serde(flatten)]
    pub schema: TableSchema,
    /// Names that version of the table's schema and settings.
    pub fingerprint: String,
    /// Why it is read in full.
    pub reason: String,
    /// The seq of the manifest with the first chunk.
    pub first: u64,
    /// Where the closing window starts and what must not have gone back: the watermark is the `xmin` of the *first* chunk's
    /// snapshot, all else is of the newest chunk's.
    pub capture: CaptureState,
    /// Names the files of the table (and of its partitions) in the source. Rows keep their page while these stay.
    pub storage: String,
    /// The files of a table with partitions one by one, by the oid of the partition: some may come and go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<(u32, u32)>,
    /// Pages of the table when the first chunk was read: a row that is older than the watermark is in one of them.
    pub pages: u32,
    /// The pages before this one are read.
    pub read: u32,
    /// Chunks so far.
    pub chunks: u32,
    /// Keys so far, refused rows included.
    pub rows: u64,
    /// Refused rows among them.
    #[serde(default, skip_serializing_if = "crate::manifest::is_zero")]
    pub refused: u64,
    /// Those that counted against `max_quarantine`.
    #[serde(default, skip_serializing_if = "crate::manifest::is_zero")]
    pub counted: u64,
    /// Bytes that came from the source so far.
    #[serde(default)]
    pub bytes_read: u64,
    /// Time that it took so far.
    #[serde(default)]
    pub millis: u64,
    /// The chunk that this manifest's run read; none where it read another table's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RelationRun>,
}

impl Unfinished {
    /// Whether all pages are read, so that the next pass closes the base.
    pub fn is_read(&self) -> bool {
        self.read >= self.pages
    }

    /// `first read: 3 of about 12 chunks`, the words that people see.
    pub fn text(&self) -> String {
        if self.is_read() {
            return format!("{}: all {} chunks are read, and what changed meanwhile is not", self.reason, self.chunks);
        }
        // Chunks so far are as good a measure as there is: their size is a setting that may change.
        let all = u64::from(self.pages) * u64::from(self.chunks);
        let about = all.div_ceil(u64::from(self.read.max(1)));
        format!("{}: {} of about {about} chunks", self.reason, self.chunks)
    }
}
