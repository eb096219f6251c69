//! Failures before a row is read: URLs, credentials, settings, events, usage, and a panic.

use super::canary::*;
use super::scenario;
use super::world::{Scenario, World};

pub(crate) fn scenarios(world: &World) -> Vec<Scenario> {
    [connections(world), broken_urls(), credentials(world), settings(), the_rest()].into_iter().flatten().collect()
}

const SOURCE: &str = "STARLIFT_SOURCE_URL";
const WAREHOUSE: &str = "STARLIFT_WAREHOUSE_URL";

fn connections(world: &World) -> Vec<Scenario> {
    let port = world.port();
    vec![
        scenario("wrong password", "ingest", 1, "28P01").with(SOURCE, world.url("keeper", FLAG_PASSWORD, "aviary_1")),
        scenario("wrong password in doctor", "doctor --json", 1, "28P01")
            .with(SOURCE, world.url("keeper", FLAG_PASSWORD, "aviary_1"))
            .with(WAREHOUSE, world.url("postgres", FLAG_PASSWORD, "star_2")),
        scenario("wrong password in plan", "plan --json", 0, "ingest would stop")
            .with(SOURCE, world.url("keeper", FLAG_PASSWORD, "aviary_1")),
        scenario("wrong password in status", "status --json", 0, "was not asked")
            .with(WAREHOUSE, world.url("postgres", FLAG_PASSWORD, "star_2")),
        scenario("no such database", "ingest", 1, "3D000")
            .with(SOURCE, world.url("keeper", SOURCE_PASSWORD, "nowhere")),
        scenario("nobody listens", "run", 75, "cannot connect")
            .with(SOURCE, format!("postgres://u:{FLAG_PASSWORD}@127.0.0.1:1/d")),
        scenario("a flag wins", "ingest --source-url", 75, "cannot connect")
            .arg(format!("postgres://u:{FLAG_PASSWORD}@127.0.0.1:1/d")),
        scenario("no such host", "ingest", 75, "cannot connect")
            .with(SOURCE, format!("postgres://u:{FLAG_PASSWORD}@no-such-host.invalid/d")),
        scenario("no TLS", "ingest", 1, "does not offer TLS")
            .with(SOURCE, format!("postgres://u:{FLAG_PASSWORD}@localhost:{port}/d?sslmode=require")),
        scenario("no such authority", "ingest", 1, "sslrootcert")
            .with(SOURCE, format!("postgres://u:{FLAG_PASSWORD}@localhost:{port}/d?sslmode=require&sslrootcert=/no")),
        scenario("plain text to another host", "ingest", 1, "sslmode=disable")
            .with(SOURCE, format!("postgres://u:{FLAG_PASSWORD}@db.example/d?sslmode=disable")),
    ]
}

fn broken_urls() -> Vec<Scenario> {
    let cannot = "a connection URL cannot be used";
    let p = FLAG_PASSWORD;
    [
        ("URL of another kind", format!("mysql://u:{p}@h/d")),
        ("URL without a user", format!("postgres://:{p}@h/d")),
        ("URL without a database", format!("postgres://u:{p}@h")),
        ("URL with a wrong port", format!("postgres://u:{p}@h:{p}/d")),
        ("URL with a slash in the password", format!("postgres://u:1/{p}@h/d?user=x")),
        ("URL with a question mark in the password", format!("postgres://u:1?{p}=x@h/d")),
        ("URL with a broken encoding", format!("postgres://u:{p}%zz@h/d")),
        ("URL with an unknown parameter", format!("postgres://u:{p}@h/d?pasword={p}")),
        ("URL with a host in the host", format!("postgres://u:x@h%40v:{p}%40w/d")),
        ("URL with credentials in its host parameter", format!("postgres://u@/d?host=v:{p}@h")),
        ("no URL at all", format!("host=h user=u password={p}")),
    ]
    .into_iter()
    .map(|(name, url)| scenario(name, "ingest", 1, cannot).with(SOURCE, url))
    .collect()
}

fn credentials(world: &World) -> Vec<Scenario> {
    let port = world.port();
    let config = "[pipeline]\nname = \"aviary\"\n[source]\ncredentials = \"file:c.json\"\n";
    let json = |value: serde_json::Value| value.to_string();
    let file = |name, content: String, code, says| {
        scenario(name, "ingest", code, says).with(SOURCE, "").file("starlift.toml", config).file("c.json", content)
    };
    let good = |password: &str| serde_json::json!({"user": "keeper", "password": password, "host": "127.0.0.1", "database": "d", "port": port});
    let changed = |key: &str, value: serde_json::Value| {
        let mut object = good(FILE_PASSWORD);
        object[key] = value;
        json(object)
    };
    vec![
        file("wrong password in a file", json(good(FILE_PASSWORD)), 1, "28P01"),
        file("a file that is no JSON", format!("{{\"password\": \"{FLAG_PASSWORD}\",, }}"), 1, "no JSON"),
        file("a file with an unknown key", changed("pasword", FILE_PASSWORD.into()), 1, "pasword"),
        file("a file with a wrong port", changed("port", FILE_PASSWORD.into()), 1, "port"),
        file("a file with a list for a password", changed("password", vec![FILE_PASSWORD].into()), 1, "no text"),
        file("a file with a wrong sslmode", changed("sslmode", FILE_PASSWORD.into()), 1, "sslmode"),
        file(
            "a file with credentials in the host",
            changed("host", format!("u:{FILE_PASSWORD}@h").into()),
            1,
            "its host",
        ),
        file(
            "a file with a URL for a host",
            changed("host", format!("postgres://u:{FILE_PASSWORD}@h").into()),
            1,
            "its host",
        ),
        scenario("a file that is a folder", "ingest", 1, "cannot read the credentials")
            .with(SOURCE, "")
            .file("starlift.toml", config.replace("c.json", "models")),
        scenario("wrong password in a variable", "ingest", 1, "28P01")
            .with(SOURCE, "")
            .with("STARLIFT_SOURCE_CREDENTIALS", "env:KEEPER")
            .with("KEEPER", json(good(VARIABLE_PASSWORD))),
        scenario("a variable that is no JSON", "ingest", 1, "no JSON")
            .with(SOURCE, "")
            .with("STARLIFT_SOURCE_CREDENTIALS", "env:KEEPER")
            .with("KEEPER", format!("{{\"password\": \"{VARIABLE_PASSWORD}\"")),
        scenario("a variable with a URL", "ingest", 75, "cannot connect")
            .with(SOURCE, "")
            .with("STARLIFT_SOURCE_CREDENTIALS", "env:KEEPER")
            .with("KEEPER", format!("postgres://u:{FLAG_PASSWORD}@127.0.0.1:1/d")),
    ]
}

fn settings() -> Vec<Scenario> {
    let p = CONFIG_PASSWORD;
    let config = |name, section: String, code, says| {
        scenario(name, "ingest", code, says)
            .with(SOURCE, "")
            .file("starlift.toml", format!("[pipeline]\nname = \"aviary\"\n{section}\n"))
    };
    vec![
        config("URL in the file", format!("[source]\nurl = \"postgres://u:{p}@127.0.0.1:1/d\""), 75, "cannot connect"),
        config("broken URL in the file", format!("[source]\nurl = \"postgres:/u:{p}@h/d\""), 1, "cannot be used"),
        config("unknown key in the file", format!("[source]\npasword = \"{p}\""), 1, "pasword"),
        config("wrong type in the file", format!("[source]\nstatement_timeout_seconds = \"{p}\""), 1, "line 4"),
        config("broken line in the file", format!("[source]\nurl = \"postgres://u:{p}@h/d"), 1, "line 4"),
        config("no quotes in the file", format!("[source]\nurl = postgres://u:{p}@h/d"), 1, "line 4"),
        config("URL for a list in the file", format!("source = \"postgres://u:{p}@h/d\""), 1, "cannot be used"),
    ]
}

fn the_rest() -> Vec<Scenario> {
    let event =
        |name, command, text: String, says| scenario(name, command, 1, says).arg("event.json").file("event.json", text);
    vec![
        event(
            "event that is no JSON",
            "ingest --event",
            format!("{{\"tables_to_query\": [\"{EVENT_VALUE}\""),
            "no JSON",
        ),
        event(
            "event of another form",
            "ingest --event",
            format!("{{\"tables_to_query\": {{\"a\": \"{EVENT_VALUE}\"}}}}"),
            "list of tables",
        ),
        event(
            "event with a wrong key",
            "transform --event",
            format!("{{\"person\": \"person/{EVENT_VALUE}.parquet\"}}"),
            "none that it can have",
        ),
        event(
            "event with a value that is no text",
            "load --event",
            format!("{{\"person\": [\"{EVENT_VALUE}\"]}}"),
            "no object",
        ),
        scenario("usage with a URL", "status", 2, "wrong place").arg(format!("postgres://u:{FLAG_PASSWORD}@h/d")),
        scenario("usage with a password that is known", "status", 2, "wrong place").arg(WAREHOUSE_PASSWORD),
        scenario("seed that is no table", "run", 1, "labels.csv")
            .file("seeds/labels.csv", format!("code,label\na,{SEED_VALUE},{SEED_VALUE}\n")),
        scenario("a panic", "ingest", 70, "starlift has a bug")
            .with("STARLIFT_FAULT", format!("ingest.connected:panic={PANIC_VALUE}")),
        scenario("a panic with a secret", "ingest", 70, "starlift has a bug")
            .with("STARLIFT_FAULT", format!("ingest.connected:panic={ACCESS_KEY}")),
    ]
}
