//! The function `load`: from the star to the warehouse. It returns `null`.

use std::process::ExitCode;

use starlift::LoadRequest;
use starlift_lambda::{Function, Place, Side, Value};

fn main() -> ExitCode {
    starlift_lambda::main(Function {
        stage: "load",
        places: &[Place::Star],
        databases: &[Side::Warehouse],
        run: |context, event| {
            Box::pin(async move {
                let request = LoadRequest { event: Some(event), ..LoadRequest::default() };
                starlift::load(&context, &request).await?;
                Ok(Value::Null)
            })
        },
    })
}
