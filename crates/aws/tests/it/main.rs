//! Secrets and parameters over the wire: a small server with prepared answers, and the two that stand in for AWS.

mod servers;
mod wire;
