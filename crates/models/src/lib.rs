//! Models on DataFusion: a session over streams, strict functions, evaluation with refused rows set aside.
//!
//! A [`Session`] holds the inputs of models as streams; it knows nothing of lakes and databases. [`Session::prepare`]
//! plans a model and says what it yields; [`PreparedModel::evaluate`] yields its rows. Guarantees:
//!
//! - the same inputs give the same rows: functions that are not immutable (`now()`, `random()`) are refused, and which of two
//!   rows that an order leaves equal is taken does not depend on the order in which they are read, or is warned about;
//! - a model reads what is registered and nothing else, and writes nothing;
//! - a value that a strict function refuses costs its row only, and the row comes out with its key, the column and the
//!   reason, where the call makes a column of the model; anywhere else it is an error;
//! - where the engine would silently take an expression for something else than PostgreSQL does, it is made right or
//!   refused;
//! - whole numbers do not wrap, times do not lose microseconds, and casts that can lose are warned about;
//! - an error of an input's stream comes out as it went in; no error holds a row value; a panic in the engine becomes
//!   an Internal error;
//! - where [`PreparedModel::shape`] says how, the rows of some keys can be evaluated alone, and are the same;
//! - memory follows the session's limit, not the size of the inputs.
//!
//! Nothing here is durable: a crash leaves at most spill files, which nothing reads again.

mod arithmetic;
mod calendar;
mod casts;
mod checked_sum;
mod dialect;
mod evaluation;
mod extremes;
mod failure;
mod functions;
mod incremental;
mod input;
mod key_texts;
mod lenient;
mod meaning;
mod memory;
mod model_test;
mod output;
mod prepared;
mod purity;
mod rewriting;
mod seed;
mod session;
mod ties;

pub use calendar::calendar;
pub use evaluation::{EvaluatedBatch, Evaluation};
pub use incremental::{Link, Shape};
pub use input::InputSource;
pub use model_test::{FailedTest, RowTests, TestFound};
pub use prepared::{PreparedModel, REFUSED_COLUMN, REFUSED_REASON};
pub use seed::read_seed;
pub use session::{Session, SessionOptions};

/// The version of the evaluation, which enters the fingerprint of every model: with another version the same SQL over
/// the same inputs may yield other rows. It names the engine's version too, because a new engine may.
pub const EVALUATION_VERSION: &str = "3, DataFusion 55.2.0";

#[cfg(test)]
mod tests {
    #[test]
    fn the_evaluation_version_names_the_engine_that_is_built_in() {
        assert!(super::EVALUATION_VERSION.ends_with(datafusion::DATAFUSION_VERSION));
    }
}
