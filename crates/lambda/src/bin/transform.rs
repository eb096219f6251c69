//! The function `transform`: from the lake to the star. The only one that has the engine in it.

use std::process::ExitCode;

use starlift_lambda::{Function, Place};

fn main() -> ExitCode {
    starlift_lambda::main(Function {
        stage: "transform",
        places: &[Place::Lake, Place::Star],
        databases: &[],
        run: |context, event| {
            Box::pin(async move {
                let report = starlift::transform(&context, Some(&event)).await?;
                Ok(starlift_lambda::result(&report))
            })
        },
    })
}
