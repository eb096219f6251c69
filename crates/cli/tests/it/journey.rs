//! What a person sees from the first `doctor` to `verify`, on an own small shop, as snapshots.
//!
//! Times, sizes, ids and places differ from run to run and are replaced by words in angle brackets.

use std::path::Path;
use std::process::{Command, Stdio};

use starlift_sandbox::{Cluster, ClusterOptions};

use super::support::{project, ran, starlift};

const SHOP: &str = "
    create table city (city_id int primary key, name text not null);
    create table customer (customer_id int primary key, name text not null, city_id int not null references city);
    create table purchase (purchase_id int primary key, customer_id int not null references customer, amount numeric(10,2));
    insert into city values (1, 'Leeds'), (2, 'York');
    insert into customer select i, 'customer ' || i, 1 + i % 2 from generate_series(1, 10) i;
    insert into purchase select i, 1 + i % 10, i * 1.25 from generate_series(1, 100) i;";

/// A shop in a source of its own, with a project and an empty warehouse.
pub(crate) struct Shop {
    /// Its own: in a shared one, other databases' transactions make a window repeat rows.
    pub(crate) cluster: Cluster,
    pub(crate) source: String,
    warehouse: String,
    reader: String,
    dir: tempfile::TempDir,
}

impl Shop {
    pub(crate) async fn new() -> Shop {
        let cluster = Cluster::start(ClusterOptions::default()).unwrap();
        let (source, warehouse) =
            (cluster.fresh_database("shop").await.unwrap(), cluster.fresh_database("star").await.unwrap());
        let reader = format!("{source}_reader");
        let client = cluster.connect(&source).await.unwrap();
        client.batch_execute(SHOP).await.unwrap();
        client
            .batch_execute(&format!(
                "create role {reader} login password 'hunter2'; grant select on city, customer to {reader}"
            ))
            .await
            .unwrap();
        let dir = project(&[
            (
                "starlift.toml",
                "[pipeline]\nname = \"shop\"\n\n[lake]\ningest = \"lake/ingest\"\ntransform = \"lake/transform\"\n",
            ),
            (
                "models/dim_customer.sql",
                "-- kind: dimension\n-- key: customer_id\n\
                 select customer_id, customer.name, city.name as city from customer join city using (city_id)\n",
            ),
            (
                "models/fact_purchase.sql",
                "-- kind: fact\n-- key: purchase_id\n\
                 -- tests: relationships(customer_id -> dim_customer)\n\
                 select purchase_id, customer_id, amount from purchase\n",
            ),
        ]);
        Shop { cluster, source, warehouse, reader, dir }
    }

    async fn change(&self, sql: &str) {
        self.cluster.connect(&self.source).await.unwrap().batch_execute(sql).await.unwrap();
    }

    pub(crate) fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = starlift(args);
        command
            .env("STARLIFT_PROJECT", self.dir.path())
            .env("STARLIFT_SOURCE_URL", self.cluster.url(&self.source, &self.reader))
            .env("STARLIFT_WAREHOUSE_URL", self.cluster.superuser_url(&self.warehouse));
        command
    }

    /// The command, its exit code and what it says on both streams, without what differs from run to run.
    fn said<const N: usize>(&self, args: [&str; N]) -> String {
        let ran = ran(&mut self.command(args));
        let code = ran.code.map_or("none".to_string(), |code| code.to_string());
        let mut text = format!("$ starlift {}\n{}", args.join(" "), ran.stdout);
        if !ran.stderr.is_empty() {
            text.push_str(&format!("--- stderr\n{}", ran.stderr));
        }
        text.push_str(&format!("--- exit {code}\n"));
        assert!(!text.contains("hunter2"), "{text}");
        let names = [
            (self.dir.path().display().to_string(), "<project>"),
            (self.reader.clone(), "<reader>"),
            (self.source.clone(), "<source>"),
            (self.warehouse.clone(), "<warehouse>"),
        ];
        names.iter().fold(text, |text, (value, name)| text.replace(value.as_str(), name))
    }
}

/// What differs from run to run.
const FILTERS: [(&str, &str); 8] = [
    (r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?(\.\d+)?Z?( UTC)?", "<time>"),
    (r"\b\d+(\.\d+)? (ms|s)\b", "<duration>"),
    (r"\b\d+(\.\d+)? ([KMG]iB|B)\b", "<size>"),
    (r"PostgreSQL \d+\.\d+", "PostgreSQL <version>"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<id>"),
    (r"\b[0-9a-f]{8}\n", "<id>\n"),
    (r" +(\n|$)", "$1"),
    (r" {2,}", "  "),
];

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_look_to_an_equal_star() {
    let shop = Shop::new().await;
    let mut settings = insta::Settings::clone_current();
    settings.set_filters(FILTERS);
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    let _bound = settings.bind_to_scope();
    insta::assert_snapshot!("1_doctor_finds_a_missing_grant", shop.said(["doctor"]));
    insta::assert_snapshot!("2_ingest_without_the_grant", shop.said(["ingest"]));
    shop.change(&format!("grant select on purchase to {}", shop.reader)).await;
    insta::assert_snapshot!("3_plan_before_anything", shop.said(["plan"]));
    assert!(shop.said(["ingest"]).contains("{\"city\":\"city/"));
    insta::assert_snapshot!("4_plan_with_an_ingest_pending", shop.said(["plan"]));
    insta::assert_snapshot!("5_warehouse_create", shop.said(["warehouse", "create"]));
    insta::assert_snapshot!("6_run", shop.said(["run", "--quiet"]));
    shop.change(
        "update city set name = 'Bath' where city_id = 2;
         delete from purchase where purchase_id = 7;
         insert into purchase values (101, 1, 9.99)",
    )
    .await;
    insta::assert_snapshot!("7_plan_of_a_change", shop.said(["plan"]));
    insta::assert_snapshot!("8_run_of_a_change", shop.said(["run", "--quiet"]));
    insta::assert_snapshot!("9_status", shop.said(["status"]));
    insta::assert_snapshot!("10_history", shop.said(["history"]));
    insta::assert_snapshot!("11_verify", shop.said(["verify"]));
    insta::assert_snapshot!("12_doctor", shop.said(["doctor"]));
    insta::assert_snapshot!("13_models", shop.said(["models"]));
    let warehouse = shop.cluster.connect(&shop.warehouse).await.unwrap();
    warehouse.batch_execute("update dim_customer set name = 'nobody' where customer_id = 3").await.unwrap();
    insta::assert_snapshot!("14_verify_of_a_changed_row", shop.said(["verify"]));
    insta::assert_snapshot!("15_clear_without_a_terminal", shop.said(["warehouse", "clear"]));
    // What a run that died in 2020 would have left.
    let left = shop.dir.path().join("lake/ingest/city/2020/01/02/030405000000.parquet");
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    std::fs::write(&left, b"half a file").unwrap();
    insta::assert_snapshot!("16_vacuum_looks", shop.said(["lake", "vacuum"]));
    assert!(left.exists());
    insta::assert_snapshot!("17_vacuum_removes", shop.said(["lake", "vacuum", "--delete"]));
    assert!(!left.exists());
    assert!(shop.said(["run", "--quiet"]).ends_with("--- exit 0\n"));
    assert!(shop.said(["lake", "compact"]).ends_with("--- exit 0\n"));
    let history = shop.said(["history", "--limit", "1"]);
    for run in ["  ingest ", "  transform ", "  load ", "  compact lake ", "  compact star "] {
        assert!(history.contains(run), "{run}: {history}");
    }
}

/// `script` gives the program a terminal, as a person has one.
fn at_a_terminal(shop: &Shop, answer: &str) -> String {
    let command = shop.command(["warehouse", "clear"]);
    let mut script = Command::new("script");
    script.args(["-qec", &format!("{} warehouse clear", env!("CARGO_BIN_EXE_starlift")), "/dev/null"]);
    script.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir("/");
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("`script` of bsdutils");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), answer.as_bytes()).unwrap();
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn clearing_asks_a_person_and_the_next_run_fills_the_warehouse_again() {
    let shop = Shop::new().await;
    shop.change(&format!("grant select on purchase to {}", shop.reader)).await;
    assert!(shop.said(["ingest"]).ends_with("--- exit 0\n"));
    assert!(shop.said(["warehouse", "create"]).ends_with("--- exit 0\n"));
    assert!(shop.said(["run", "--quiet"]).ends_with("--- exit 0\n"));
    let warehouse = shop.cluster.connect(&shop.warehouse).await.unwrap();
    let purchases = async || -> i64 {
        warehouse.query_one("select count(*) from current_fact_purchase", &[]).await.unwrap().get(0)
    };
    let kept = at_a_terminal(&shop, "n\n");
    assert!(kept.contains("[y/N]") && kept.contains("nothing was cleared"), "{kept}");
    assert_eq!(purchases().await, 100);
    let cleared = at_a_terminal(&shop, "y\n");
    assert!(cleared.contains("cleared 110 rows from 2 tables"), "{cleared}");
    assert_eq!(purchases().await, 0);
    assert!(shop.said(["run", "--quiet"]).ends_with("--- exit 0\n"));
    assert_eq!(purchases().await, 100);
    assert!(shop.said(["verify"]).ends_with("--- exit 0\n"));
    assert!(Path::new(&shop.dir.path().join("lake/ingest/_manifests")).is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newcomer_gets_wrong_is_told_before_a_run_with_a_hint_that_works() {
    let shop = Shop::new().await;
    shop.change(&format!(
        "create view cities as select city_id, count(*) as n from customer group by city_id;
         grant select on purchase, cities to {}",
        shop.reader
    ))
    .await;
    let first = shop.said(["doctor"]);
    assert!(first.contains("run `starlift ingest`, then `starlift warehouse create`"), "{first}");
    assert!(first.ends_with("ready to run, 1 thing to look at\n--- exit 0\n"), "{first}");
    assert!(shop.said(["ingest"]).ends_with("--- exit 0\n"));

    let model = shop.dir.path().join("models/dim_cities.sql");
    let header = "-- kind: dimension\n-- key: city_id\n";
    std::fs::write(&model, format!("{header}select city_id, now() as at from city")).unwrap();
    let doctor = shop.said(["doctor"]);
    assert!(doctor.contains("✗ models ") && doctor.contains("  model `dim_cities` calls `now`"), "{doctor}");
    assert!(doctor.ends_with("--- exit 1\n"), "{doctor}");

    std::fs::write(&model, format!("{header}select city_id, n from cities")).unwrap();
    let plan = shop.said(["plan"]);
    let hint = "`[source.tables.\"cities\"]` with `capture = \"full\"`";
    let what = "model `dim_cities` reads `cities`, which is a view of the source";
    assert!(plan.contains(what) && plan.contains(hint) && plan.ends_with("--- exit 1\n"), "{plan}");
    let settings = shop.dir.path().join("starlift.toml");
    let toml = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{toml}\n[source.tables.cities]\ncapture = \"full\"\n")).unwrap();
    // What the coming ingest brings stops nobody.
    let waits = shop.said(["plan"]);
    assert!(
        waits.contains("before ingest brings the change: model `dim_cities` reads") && waits.ends_with("--- exit 0\n"),
        "{waits}"
    );
    let ready = shop.said(["doctor"]);
    assert!(ready.contains("! models ") && ready.contains("  over the lake as it is"), "{ready}");
    assert!(shop.said(["ingest"]).contains("cities/"));
    assert!(shop.said(["warehouse", "create"]).ends_with("--- exit 0\n"));
    assert!(shop.said(["run", "--quiet"]).ends_with("--- exit 0\n"));

    let unknown = shop.said(["quarantine", "list", "dim_citys"]);
    assert!(unknown.contains("did you mean `dim_cities`?") && unknown.ends_with("--- exit 1\n"), "{unknown}");
    assert!(
        shop.said(["quarantine", "list", "dim_cities"]).starts_with("$ starlift quarantine list dim_cities\n✓ no row")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lake_and_star_are_not_written_over_each_other_where_their_places_are_mixed_up() {
    let shop = Shop::new().await;
    shop.change(&format!("grant select on purchase to {}", shop.reader)).await;
    assert!(shop.said(["ingest"]).ends_with("--- exit 0\n"));
    assert!(shop.said(["warehouse", "create"]).ends_with("--- exit 0\n"));
    assert!(shop.said(["run", "--quiet"]).ends_with("--- exit 0\n"));
    let (lake, star) = (shop.dir.path().join("lake/ingest"), shop.dir.path().join("lake/transform"));
    let over_the_star = ran(shop.command(["run", "--quiet"]).env("STARLIFT_LAKE_INGEST", &star));
    assert_eq!(over_the_star.code, Some(1));
    assert!(over_the_star.stdout.ends_with("\ningest and transform failed\n"), "{}", over_the_star.stdout);
    assert!(over_the_star.stderr.contains("lake/transform` holds a star and no lake\n"), "{}", over_the_star.stderr);
    let over_the_lake = ran(shop.command(["run", "--quiet"]).env("STARLIFT_LAKE_TRANSFORM", &lake));
    assert!(over_the_lake.stdout.ends_with("\ntransform and load failed\n"), "{}", over_the_lake.stdout);
    assert!(over_the_lake.stderr.contains("lake/ingest` holds a lake and no star\n"), "{}", over_the_lake.stderr);
    for look in ["status", "plan", "verify", "doctor"] {
        let looked = ran(shop.command([look]).env("STARLIFT_LAKE_INGEST", &star));
        assert_eq!(looked.code, Some(1), "{look}: {}", looked.stdout);
    }
    // One place for both, from nothing: ingest makes it a lake, and that is where it ends.
    let both = shop.dir.path().join("both");
    let mut run = shop.command(["run", "--quiet"]);
    let run = ran(run.env("STARLIFT_LAKE_INGEST", &both).env("STARLIFT_LAKE_TRANSFORM", &both));
    assert!(run.stdout.ends_with("\ntransform and load failed\n"), "{}", run.stdout);
    // Nothing of it left a trace.
    assert!(shop.said(["run", "--quiet"]).ends_with("--- exit 0\n"));
    assert!(shop.said(["verify"]).ends_with("--- exit 0\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_away_is_not_said_to_be_empty_or_behind() {
    let shop = Shop::new().await;
    shop.change(&format!("grant select on purchase to {}", shop.reader)).await;
    assert!(shop.said(["ingest"]).ends_with("--- exit 0\n"));
    assert!(shop.said(["warehouse", "create"]).ends_with("--- exit 0\n"));
    assert!(shop.said(["run", "--quiet"]).ends_with("--- exit 0\n"));
    let away = "postgres://nobody:secret@127.0.0.1:1/away";
    let plan = ran(shop.command(["plan"]).env("STARLIFT_SOURCE_URL", away)).stdout;
    assert!(plan.starts_with("ingest would read\n  unknown\n"), "{plan}");
    assert!(plan.contains("! the source was not asked: cannot connect"), "{plan}");
    let status = ran(shop.command(["status"]).env("STARLIFT_WAREHOUSE_URL", away)).stdout;
    assert!(status.contains("  warehouse  unknown\n") && !status.contains("waits for load"), "{status}");
}
