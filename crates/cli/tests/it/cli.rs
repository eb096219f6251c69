//! Usage, settings, events, and what goes to which stream; no database is needed.

use std::process::Stdio;

use serde_json::Value;

use crate::support::{NOBODY, project, ran, small_project, starlift, totesys};

#[test]
fn help_is_for_a_newcomer() {
    let help = ran(&mut starlift(["--help"]));
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    assert!(help.stdout.contains("Usage: starlift [OPTIONS] <COMMAND>"), "{}", help.stdout);
    let commands = [
        "doctor",
        "plan",
        "run",
        "ingest",
        "transform",
        "load",
        "verify",
        "status",
        "history",
        "models",
        "warehouse",
        "demo",
        "init",
    ];
    for command in commands {
        let listed = help.stdout.lines().any(|line| line.trim_start().starts_with(&format!("{command} ")));
        assert!(listed, "`{command}` is not in: {}", help.stdout);
    }
}

#[test]
fn every_command_has_help_of_its_own() {
    for command in [
        "doctor",
        "plan",
        "run",
        "ingest",
        "transform",
        "load",
        "verify",
        "status",
        "history",
        "models",
        "warehouse",
        "demo",
        "init",
        "completions",
    ] {
        let help = ran(&mut starlift([command, "--help"]));
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{command}");
        assert!(help.stdout.contains(&format!("Usage: starlift {command}")), "{}", help.stdout);
    }
}

#[test]
fn wrong_usage_exits_2_and_says_so_on_stderr_alone() {
    for args in [
        ["frobnicate", ""],
        ["run", "--every=5"],
        ["history", "--limit=0"],
        ["demo", "--scale=-1"],
        ["load", "--run-id=a b"],
    ] {
        let wrong = ran(&mut starlift(args));
        assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(wrong.stderr.starts_with("error: "), "{}", wrong.stderr);
    }
    let nothing = ran(&mut starlift([]));
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(2), ""));
    assert!(nothing.stderr.contains("starlift demo"), "{}", nothing.stderr);
}

#[test]
fn a_password_in_the_wrong_place_is_not_repeated() {
    for secret in [NOBODY, "postgres://h/d?user=u&password=hunter2", "host=h password=hunter2"] {
        let wrong = ran(&mut starlift(["status", secret]));
        assert_eq!(wrong.code, Some(2));
        assert!(!wrong.stderr.contains("hunter2"), "{}", wrong.stderr);
    }
}

#[test]
fn without_a_project_the_error_says_what_to_do() {
    let folder = project(&[]);
    let dir = folder.path().to_str().unwrap();
    for command in ["doctor", "plan", "run", "ingest", "transform", "load", "verify", "status", "history", "models"] {
        let lost = ran(&mut starlift([command, "--project", dir]));
        assert_eq!((lost.code, lost.stdout.as_str()), (Some(1), ""), "{command}");
        assert!(lost.stderr.starts_with(&format!("error: no `starlift.toml` in `{dir}`\n")), "{}", lost.stderr);
        assert!(lost.stderr.contains("hint: "), "{}", lost.stderr);
    }
}

#[test]
fn the_project_comes_from_the_flag_then_the_environment_then_the_current_folder() {
    let folder = small_project();
    let other = project(&[("starlift.toml", "[pipeline]\nname = \"other\"\n")]);
    let name = |ran: crate::support::Ran| {
        let document: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
        document["pipeline"].as_str().unwrap().to_string()
    };
    let (dir, other_dir) = (folder.path().to_str().unwrap(), other.path());
    assert_eq!(name(ran(starlift(["models", "--json", "--project", dir]).env("STARLIFT_PROJECT", other_dir))), "shop");
    assert_eq!(name(ran(starlift(["models", "--json"]).env("STARLIFT_PROJECT", dir).current_dir(other_dir))), "shop");
    assert_eq!(name(ran(starlift(["models", "--json"]).current_dir(dir))), "shop");
}

#[test]
fn an_unknown_setting_is_refused_with_its_line_and_without_its_value() {
    let folder = project(&[("starlift.toml", "[pipeline]\nname = \"shop\"\n[source]\npasword = \"hunter2\"\n")]);
    let wrong = ran(&mut starlift(["status", "--project", folder.path().to_str().unwrap()]));
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(1), ""));
    assert!(wrong.stderr.contains("line 4") && wrong.stderr.contains("pasword"), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("hunter2"), "{}", wrong.stderr);
}

#[test]
fn the_shipped_credentials_example_is_recognised() {
    let example = std::fs::read_to_string(totesys().join("db_credentials.json.example")).unwrap();
    let setting = "[pipeline]\nname = \"shop\"\n[source]\ncredentials = \"file:db_credentials.json\"\n";
    let folder = project(&[("starlift.toml", setting), ("db_credentials.json", &example)]);
    let wrong = ran(&mut starlift(["ingest", "--project", folder.path().to_str().unwrap()]));
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("CHANGE_ME") && wrong.stderr.contains("STARLIFT_SOURCE_URL"), "{}", wrong.stderr);
}

#[test]
fn an_event_that_cannot_be_used_is_a_config_error() {
    let folder = small_project();
    let dir = folder.path().to_str().unwrap();
    let event = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let large = event("large.json", &format!("{{\"tables_to_query\": [\"{}\"]}}", "a".repeat(300_000)));
    let wrong = event("wrong.json", "{\"tables\": []}");
    let broken = event("broken.json", "{");
    let missing = folder.path().join("missing.json").to_str().unwrap().to_string();
    for path in [&large, &wrong, &broken, &missing] {
        let refused = ran(&mut starlift(["ingest", "--project", dir, "--event", path, "--source-url", NOBODY]));
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{path}");
        assert!(refused.stderr.contains("event") && refused.stderr.contains("hint: "), "{}", refused.stderr);
    }
    let keys = event("keys.json", "{\"item\": \"../item.parquet\"}");
    for stage in ["transform", "load"] {
        let refused = ran(&mut starlift([stage, "--project", dir, "--event", &keys]));
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{stage}");
    }
    // Nothing on standard input is no event either.
    let empty = ran(&mut starlift(["ingest", "--project", dir, "--event", "-", "--source-url", NOBODY]));
    assert_eq!(empty.code, Some(1), "{}", empty.stderr);
}

#[test]
fn an_empty_lake_is_nothing_to_transform_and_stdout_holds_the_contract_alone() {
    let folder = small_project();
    let dir = folder.path().to_str().unwrap();
    let transform = ran(&mut starlift(["transform", "--project", dir]));
    assert_eq!((transform.code, transform.stdout.as_str()), (Some(0), "{}\n"), "{}", transform.stderr);
    assert!(transform.stderr.starts_with("WARNING  transform: "), "{}", transform.stderr);
    let load = ran(&mut starlift(["load", "--project", dir, "--quiet"]));
    assert_eq!((load.code, load.stdout.as_str(), load.stderr.as_str()), (Some(0), "null\n", ""));
}

#[test]
fn a_database_that_is_away_exits_75_and_its_password_stays_unsaid() {
    let folder = small_project();
    let dir = folder.path().to_str().unwrap();
    let report = folder.path().join("report.json");
    let away = ran(starlift(["ingest", "--project", dir, "--report"]).arg(&report).env("STARLIFT_SOURCE_URL", NOBODY));
    assert_eq!((away.code, away.stdout.as_str()), (Some(75), ""), "{}", away.stderr);
    assert!(away.stderr.starts_with("error: "), "{}", away.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!((&report["stage"], &report["error"]["kind"]), (&"ingest".into(), &"Unavailable".into()));
    assert!(!format!("{} {report}", away.stderr).contains("hunter2"));
}

#[test]
fn machines_get_one_critical_line_and_nothing_else() {
    let folder = small_project();
    let dir = folder.path().to_str().unwrap();
    let away = ran(&mut starlift([
        "ingest",
        "--project",
        dir,
        "--source-url",
        NOBODY,
        "--log-format",
        "json",
        "--run-id",
        "r1",
    ]));
    assert_eq!((away.code, away.stdout.as_str()), (Some(75), ""));
    let lines: Vec<Value> = away.stderr.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 1, "{}", away.stderr);
    assert_eq!(lines[0]["level"], "CRITICAL");
    assert_eq!(lines[0]["stage"], "ingest");
    assert_eq!(lines[0]["run_id"], "r1");
    assert_eq!(lines[0]["error_type"], "Starlift.Unavailable");
    assert!(!away.stderr.contains("hunter2"));
}

#[test]
fn status_and_history_of_nothing_say_how_to_begin() {
    let folder = small_project();
    let dir = folder.path().to_str().unwrap();
    let status = ran(&mut starlift(["status", "--project", dir]));
    assert_eq!(status.code, Some(0), "{}", status.stderr);
    assert_eq!(status.stdout, "shop\n  nothing was ingested yet; `starlift run` starts it\n");
    let status = ran(&mut starlift(["status", "--project", dir, "--json"]));
    let document: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!((status.stdout.lines().count(), &document["pipeline"]), (1, &"shop".into()));
}

#[test]
fn the_shipped_pipeline_is_shown_as_a_tree_a_flowchart_and_a_document() {
    let dir = totesys();
    let models = |format: &str| {
        let shown = ran(&mut starlift(["models", "--project", dir.to_str().unwrap(), format]));
        assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""));
        shown.stdout
    };
    let tree = models("--format=tree");
    assert!(tree.starts_with("totesys: 11 models from 11 tables and 1 seed\n"), "{tree}");
    assert!(tree.contains("\ndim_counterparty  dimension, key counterparty_id\n"), "{tree}");
    assert!(tree.contains("├─ reads table address\n"), "{tree}");
    let mermaid = models("--format=mermaid");
    assert!(mermaid.starts_with("graph LR\n"), "{mermaid}");
    assert!(mermaid.contains("  table_address --> model_dim_location\n"), "{mermaid}");
    assert!(mermaid.contains(" .-> model_dim_date\n"), "{mermaid}");
    let document: Value = serde_json::from_str(&models("--json")).unwrap();
    assert_eq!(document["models"].as_array().unwrap().len(), 11);
}

#[test]
fn colour_is_for_terminals_unless_it_is_asked_for() {
    let dir = totesys();
    let models = ["models", "--project", dir.to_str().unwrap()];
    assert!(!ran(&mut starlift(models)).stdout.contains('\u{1b}'));
    assert!(ran(starlift(models).arg("--color=always")).stdout.contains('\u{1b}'));
    assert!(ran(starlift(models).env("LANG", "C")).stdout.is_ascii());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let dir = totesys();
    let ended = starlift(["models", "--project", dir.to_str().unwrap()])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn a_failure_is_said_and_ends_as_one_although_nobody_reads_standard_output_or_the_report_cannot_be_written() {
    let folder = small_project();
    let dir = folder.path().to_str().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let unread = ran(starlift(["run", "--project", dir]).env("STARLIFT_SOURCE_URL", NOBODY).stdout(writer));
    assert_eq!(unread.code, Some(75), "{}", unread.stderr);
    assert!(unread.stderr.contains("error: "), "{}", unread.stderr);
    let mut run = starlift(["run", "--report", "/no/such/folder/report.json", "--project", dir]);
    let unwritten = ran(run.env("STARLIFT_SOURCE_URL", NOBODY));
    assert_eq!(unwritten.code, Some(75), "{}", unwritten.stderr);
    assert!(unwritten.stderr.contains("cannot write the report"), "{}", unwritten.stderr);
}

#[test]
fn a_new_project_is_read_by_every_command_and_is_never_written_over() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("Mein Geschäft");
    let made = ran(starlift(["init"]).arg(&dir));
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""));
    assert!(made.stdout.contains("Geschäft/starlift.toml\n"), "{}", made.stdout);
    let status = ran(starlift(["status", "--project"]).arg(&dir));
    assert!(status.stdout.starts_with("mein-gesch-ft\n"), "{} {}", status.stdout, status.stderr);
    // The hint of what is missing names a file that is there.
    let doctor = ran(starlift(["doctor", "--project"]).arg(&dir)).stdout;
    assert!(doctor.contains("db_credentials.json.example` to `") && dir.join("db_credentials.json.example").exists());

    std::fs::write(dir.join("starlift.toml"), "mine").unwrap();
    let again = ran(starlift(["init", "--json"]).arg(&dir));
    assert_eq!((again.code, again.stdout.as_str()), (Some(1), ""));
    assert!(again.stderr.starts_with("error: there is a project in `"), "{}", again.stderr);
    // One that was interrupted before its settings is finished.
    std::fs::remove_file(dir.join("starlift.toml")).unwrap();
    std::fs::write(dir.join(".gitignore"), "lake\n").unwrap();
    let finished = ran(starlift(["init", "--json"]).arg(&dir)).stdout;
    assert!(finished.contains(r#""pipeline":"mein-gesch-ft","created":["starlift.toml"]"#), "{finished}");
    // Passwords would be committed where another .gitignore was there.
    assert!(finished.contains(r#""not_ignored":["db_credentials.json","warehouse_credentials.json"]"#), "{finished}");
    std::fs::remove_file(dir.join("starlift.toml")).unwrap();
    let told = ran(starlift(["init"]).arg(&dir)).stdout;
    assert!(told.contains("committed: db_credentials.json, warehouse_credentials.json\n"), "{told}");
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let printed = ran(&mut starlift(["completions", shell]));
        assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(printed.stdout.contains("transform"), "{shell}");
    }
}

#[test]
fn a_log_filter_that_cannot_be_read_is_a_config_error() {
    let wrong = ran(starlift(["completions", "bash"]).env("STARLIFT_LOG", "=a=b="));
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(1), ""));
    assert!(wrong.stderr.starts_with("error: STARLIFT_LOG cannot be read\n"), "{}", wrong.stderr);
}
