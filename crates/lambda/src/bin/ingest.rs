//! The function `ingest`: from the source to the lake.

use std::process::ExitCode;

use starlift_lambda::{Function, Place, Side};

fn main() -> ExitCode {
    starlift_lambda::main(Function {
        stage: "ingest",
        places: &[Place::Lake],
        databases: &[Side::Source],
        run: |context, event| {
            Box::pin(async move {
                let report = starlift::ingest(&context, Some(&event)).await?;
                Ok(starlift_lambda::result(&report))
            })
        },
    })
}
