//! One cluster per process, for tests that need a database and not a server of their own.

use std::sync::OnceLock;

use starlift_core::{Error, Result};

use super::{Cluster, ClusterOptions};

static SHARED: OnceLock<Result<Cluster>> = OnceLock::new();

/// The process's shared cluster, started on first use; take a database of your own from it with
/// [`Cluster::fresh_database`]. It ends with the process, although a static is never dropped. It knows prepared
/// transactions: end those that you prepare, because they hold back `xmin` for every database.
///
/// # Errors
/// Where it did not start: the same error each time.
pub fn shared() -> Result<&'static Cluster> {
    let prepared = ("max_prepared_transactions".to_string(), "16".to_string());
    match SHARED.get_or_init(|| Cluster::start(ClusterOptions { settings: vec![prepared], ..Default::default() })) {
        Ok(cluster) => Ok(cluster),
        Err(error) => {
            let mut again = Error::new(error.kind(), error.message());
            if let Some(detail) = error.detail() {
                again = again.with_detail(detail);
            }
            if let Some(hint) = error.hint() {
                again = again.with_hint(hint);
            }
            Err(again)
        }
    }
}
