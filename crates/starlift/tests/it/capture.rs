//! Proof of capture: each way in which readers of an operational database lose rows, on a real PostgreSQL.
//!
//! Every test springs its trap and shows that it is sprung: that the usual cursor, a wrong reading of `xmin` or a naive
//! order of statements would have lost something. Then the lake has to equal the source by key and content.
//!
//! | trap | file |
//! | --- | --- |
//! | late commits, idle transactions, savepoints and exception blocks, prepared transactions, serial gaps, one snapshot | `late_commits` |
//! | ties, precision, clocks, backdated and untouched stamps | `stamps` |
//! | deletes, keys that return or change, `TRUNCATE`, frozen copies, tables without a key | `deletes` |
//! | keys that are there twice behind a broken index | `doubled` |
//! | defaults, columns that came again, labels, types, names, rewrites before the first read | `ddl` |
//! | partitions that are attached, detached or filled elsewhere, also while they are read | `partitions` |
//! | row-level security, views, grants on columns | `security` |
//! | a standby: empty lists of running ids, lag, promotion | `standby` |
//! | restored files, new timelines, other clusters, crashes | `restored` |
//! | tables that follow their stamps: the horizon, lying stamps, references, restarts, standbys | `cursors` |
//! | 2^31 and 2^32 transactions | `wraparound` |

mod cursors;
mod ddl;
mod deletes;
mod doubled;
pub(crate) mod lab;
mod late_commits;
mod partitions;
mod restored;
mod security;
mod stamps;
mod standby;
mod wraparound;
