//! `doctor`: what a run needs, check by check, with what mends it.

use serde::Serialize;
use starlift::doctor::{Check, Verdict};
use starlift::grants::{Grants, LOADER, READER};
use starlift::telemetry::{lines, one_line};

use crate::args::Doctor;
use crate::failure::{Ended, Exit};
use crate::shell::Shell;
use crate::stdout;
use crate::style::Style;
use starlift::count;

#[derive(Serialize)]
struct Document<'a> {
    ready: bool,
    checks: &'a [Check],
}

/// Makes the checks; exits 1 where a run would fail.
pub(crate) async fn run(shell: &Shell, args: &Doctor) -> Ended {
    let context = shell.context(args.places.overrides(), None).await?;
    if args.grants {
        stdout::print(&script(&starlift::grants::grants(&context).await))?;
        return Ok(Exit::Done);
    }
    shell.bars.wait_for("checking");
    let checks = starlift::doctor::doctor(&context).await;
    shell.bars.clear();
    let ready = !checks.iter().any(|c| c.verdict == Verdict::Fail);
    if args.print.json {
        stdout::json(&Document { ready, checks: &checks })?;
    } else {
        stdout::print(&text(shell.out, &checks))?;
    }
    Ok(if ready { Exit::Done } else { Exit::Found })
}

/// A script for people to read and run in parts.
fn script(grants: &Grants) -> String {
    format!(
        "-- In the source, as its owner. Then give the role a password: \\password {READER}\n{}\n\n\
         -- In the warehouse, as its owner, after `starlift ingest` and `starlift warehouse create`. Then: \\password {LOADER}\n{}\n",
        grants.source.join("\n"),
        grants.warehouse.join("\n")
    )
}

fn text(style: Style, checks: &[Check]) -> String {
    let width = checks.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let sign = match check.verdict {
            Verdict::Ok => style.tick(),
            Verdict::Warn => style.alert(),
            Verdict::Fail => style.cross(),
        };
        text.push_str(&format!("{sign} {:<width$}  {}\n", one_line(&check.name), one_line(&check.detail)));
        if let Some(mend) = check.mend.as_deref().filter(|_| check.verdict != Verdict::Ok) {
            // Statements are to be copied: each on a line of its own and as it is.
            for line in lines(mend).lines() {
                text.push_str(&format!("    {}\n", style.bold(line)));
            }
        }
    }
    let count = |verdict| checks.iter().filter(|c| c.verdict == verdict).count() as u64;
    text.push('\n');
    text.push_str(&match (count(Verdict::Fail), count(Verdict::Warn)) {
        (0, 0) => style.good("ready to run"),
        (0, warnings) => format!("{}, {} to look at", style.good("ready to run"), count::with(warnings, "thing")),
        (failures, _) => style.bad(&format!("not ready: {} to mend", count::with(failures, "thing"))),
    });
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, verdict: Verdict, mend: Option<&str>) -> Check {
        Check { name: name.into(), verdict, detail: "seen".into(), mend: mend.map(str::to_string) }
    }

    #[test]
    fn the_roles_are_a_script_of_two_parts() {
        let grants = Grants { source: vec!["a;".into(), "b;".into()], warehouse: vec!["c;".into()] };
        assert_eq!(
            script(&grants),
            "-- In the source, as its owner. Then give the role a password: \\password starlift_reader\na;\nb;\n\n\
             -- In the warehouse, as its owner, after `starlift ingest` and `starlift warehouse create`. Then: \\password starlift_loader\nc;\n"
        );
    }

    #[test]
    fn what_mends_a_check_stands_under_it() {
        let checks = [
            check("project", Verdict::Ok, None),
            check("source: keys", Verdict::Warn, None),
            check("warehouse: tables", Verdict::Fail, Some("grant a to b;\ngrant c to d;")),
        ];
        assert_eq!(
            text(Style::PLAIN, &checks),
            "+ project            seen\n\
             ! source: keys       seen\n\
             x warehouse: tables  seen\n\
             \x20   grant a to b;\n\
             \x20   grant c to d;\n\
             \n\
             not ready: 1 thing to mend\n"
        );
        assert!(text(Style::PLAIN, &checks[..2]).ends_with("\nready to run, 1 thing to look at\n"));
    }
}
