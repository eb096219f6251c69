//! No password, token or row value is ever said: canaries in every place that holds one, and the program fails in every
//! way that is known, with all that it can log. Keys of rows may be named, and here none is a canary.

mod canary;
mod databases;
mod settings;
mod store;
mod world;

use self::canary::found_in;
use self::world::{Scenario, World};

/// A scenario that only differs from a plain one in what is added to it.
fn scenario(name: &'static str, command: &str, code: i32, says: &'static str) -> Scenario {
    Scenario {
        name,
        args: command.split(' ').map(str::to_string).collect(),
        source: Default::default(),
        warehouse: Default::default(),
        files: Vec::new(),
        environment: Vec::new(),
        code,
        says,
    }
}

impl Scenario {
    fn arg(mut self, arg: impl Into<String>) -> Scenario {
        self.args.push(arg.into());
        self
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Scenario {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn file(mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) -> Scenario {
        self.files.push((path.into(), content.into()));
        self
    }

    fn in_source(mut self, before: impl Into<String>, after: impl Into<String>) -> Scenario {
        self.source = (before.into(), after.into());
        self
    }

    fn in_warehouse(mut self, before: impl Into<String>, after: impl Into<String>) -> Scenario {
        self.warehouse = (before.into(), after.into());
        self
    }
}

/// Runs scenarios and lists every canary that was said, with the line that said it, and every scenario that came out in
/// another way than it must.
async fn told(world: &World, scenarios: &[Scenario]) -> Vec<String> {
    let mut told = Vec::new();
    for scenario in scenarios {
        for said in world.act(scenario).await {
            let place = format!("{} ({})", scenario.name, said.format);
            if !said.as_it_must {
                told.push(format!("{place}: not `{}`, but {:?}: {}", scenario.says, said.code, said.all));
            }
            for line in said.all.lines() {
                let found = found_in(line);
                if !found.is_empty() {
                    told.push(format!("{place}: {} in: {line}", found.join(", ")));
                }
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_value_of_a_row_is_said_on_any_path() {
    let world = World::new().await;
    let before = [
        scenario("the first ingest", "ingest", 0, "\"person\""),
        scenario("warehouse create", "warehouse create --json", 0, "created"),
        scenario("a run that comes through", "run", 0, "\"run_id\""),
    ];
    let mut found = told(&world, &before).await;
    let mut paths = 0;
    // Each list is made when it is its turn: some depend on what is in the lake by then.
    let lists: [fn(&World) -> Vec<Scenario>; 6] = [
        settings::scenarios,
        store::scenarios,
        databases::source,
        databases::models,
        databases::files,
        databases::warehouse,
    ];
    for list in lists {
        let scenarios = list(&world);
        paths += scenarios.len();
        found.extend(told(&world, &scenarios).await);
    }
    assert!(paths >= 30, "{paths} paths");
    // Nothing of it has broken the world: each path failed for its own reason.
    let after = [
        scenario("a run after all of them", "run", 0, "\"run_id\""),
        scenario("verify", "verify --json", 0, "\"equal\":true"),
    ];
    found.extend(told(&world, &after).await);
    assert!(found.is_empty(), "{} times:\n{}", found.len(), found.join("\n"));
}
