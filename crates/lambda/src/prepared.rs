//! What all invocations share: made once, before the first, and by the next where it could not be made.

use std::sync::Arc;
use std::time::Duration;

use starlift::config::{Config, Environment, Overrides, Project};
use starlift::context::{Context, Unwatched};
use starlift::telemetry;
use starlift_core::{Error, Result};
use tokio::sync::Mutex;

use crate::Function;
use crate::start::project_dir;

/// How long a start may take before the first event is asked for. Lambda allows ten seconds, and begins anew after them.
const PATIENCE: Duration = Duration::from_secs(7);

/// Settings, models, stores and secrets.
pub(crate) struct Prepared {
    function: Function,
    environment: Environment,
    context: Mutex<Option<Context>>,
}

impl Prepared {
    /// Nothing yet.
    pub(crate) fn new(function: Function, environment: Environment) -> Prepared {
        Prepared { function, environment, context: Mutex::new(None) }
    }

    /// Makes everything ready, ahead of the first event.
    ///
    /// Errors: why it is not; what could be made ready is.
    pub(crate) async fn early(&self) -> Result<()> {
        let work = async {
            let context = self.context().await?;
            context.prepare(self.function.places, self.function.databases).await
        };
        tokio::time::timeout(PATIENCE, work)
            .await
            .unwrap_or_else(|_| Err(Error::unavailable(format!("not ready within {} s", PATIENCE.as_secs()))))
    }

    /// What a run starts from. It opens its own connections, and reads what of the secrets is not read yet.
    ///
    /// Errors: Config where settings, the log's filter among them, or models cannot be used; those of a parameter that a
    /// setting names.
    pub(crate) async fn context(&self) -> Result<Context> {
        let mut made = self.context.lock().await;
        if let Some(context) = &*made {
            return Ok(context.clone());
        }
        if let Some(filter) = self.environment.get("STARLIFT_LOG") {
            telemetry::check_filter(filter)?;
        }
        let dir = project_dir(&self.environment);
        let config = Config::read(&dir, self.environment.clone(), Overrides::default())?;
        let config = config.resolved(self.function.places).await?;
        let context = Context::new(config, Project::read(&dir)?, Arc::new(Unwatched), None);
        Ok(made.insert(context).clone())
    }
}
