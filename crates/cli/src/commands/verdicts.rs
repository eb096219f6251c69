//! `models --tests`: the tests of the models' headers, and what they last found.

use serde::Serialize;
use starlift::config::Overrides;
use starlift::count;
use starlift::telemetry::one_line;
use starlift::verdicts::{ModelTestVerdict, verdicts};

use crate::args::Models;
use crate::failure::{Ended, Exit};
use crate::shell::Shell;
use crate::stdout;
use crate::style::Style;
use crate::table::{Align, Table};

#[derive(Serialize)]
struct Document<'a> {
    tests: &'a [ModelTestVerdict],
}

/// Shows them; reads the star, and no database.
pub(crate) async fn run(shell: &Shell, args: &Models) -> Ended {
    let context = shell.context(Overrides::default(), None).await?;
    shell.bars.wait_for("looking");
    let tests = verdicts(&context).await?;
    shell.bars.clear();
    if args.print.json {
        stdout::json(&Document { tests: &tests })?;
    } else {
        stdout::print(&text(shell.out, &tests))?;
    }
    Ok(Exit::Done)
}

fn text(style: Style, tests: &[ModelTestVerdict]) -> String {
    let mut table = Table::new([
        ("model", Align::Left),
        ("test", Align::Left),
        ("verdict", Align::Left),
        ("failed", Align::Right),
        ("tested", Align::Right),
        ("in", Align::Right),
    ]);
    let mut model = "";
    for test in tests {
        let name = if test.model == model { String::new() } else { one_line(&test.model) };
        model = &test.model;
        let verdict = match &test.last {
            None => "not run yet",
            Some(last) if last.failed == 0 => "passed",
            Some(_) if test.warns => "warned",
            Some(_) => "refused rows",
        };
        let number = |of: fn(&starlift_core::manifest::TestVerdict) -> u64| test.last.as_ref().map(of).map(count::of);
        table.row([
            name,
            one_line(&test.test),
            verdict.to_string(),
            number(|last| last.failed).unwrap_or_default(),
            number(|last| last.rows).unwrap_or_default(),
            test.last.as_ref().map(|last| format!("manifest {}", last.seq)).unwrap_or_default(),
        ]);
    }
    table.render(style, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlift_core::manifest::TestVerdict;

    #[test]
    fn each_model_is_named_once_and_each_test_has_its_verdict() {
        let test = |model: &str, test: &str, warns, failed: Option<u64>| ModelTestVerdict {
            model: model.into(),
            test: test.into(),
            warns,
            last: failed.map(|failed| TestVerdict { test: test.into(), warns, seq: 3, rows: 12, failed }),
        };
        let tests = [
            test("dim_a", "not_null(x)", false, Some(0)),
            test("dim_a", "not_null(y)", true, Some(2)),
            test("dim_b", "unique(z)", false, Some(1)),
            test("dim_b", "not_null(z)", false, None),
        ];
        assert_eq!(
            text(Style::PLAIN, &tests),
            "model  test         verdict       failed  tested          in\n\
             dim_a  not_null(x)  passed             0      12  manifest 3\n\
             \x20      not_null(y)  warned             2      12  manifest 3\n\
             dim_b  unique(z)    refused rows       1      12  manifest 3\n\
             \x20      not_null(z)  not run yet\n"
        );
    }
}
