//! AWS refuses: throttling, a clock that is wrong, another region, credentials that are over, rights that are missing. Each is
//! told by its kind in one line that raises the alarm and holds no secret; nothing is committed; the next run heals.

use serde_json::{Value, json};

use crate::function::{Function, alarms};
use crate::gate::{Asked, Gate, Refusal};
use crate::lab::{BUCKET, CANARIES, Lab, assert_no_secret};

const STAGES: [&str; 3] = ["ingest", "transform", "load"];
const SLOW_DOWN: Refusal = Refusal("503 Slow Down", "SlowDown", "Please reduce your request rate.");
const SKEWED: Refusal = Refusal(
    "403 Forbidden",
    "RequestTimeTooSkewed",
    "The difference between the request time and the current time is too large.",
);
const DENIED: Refusal = Refusal(
    "403 Forbidden",
    "AccessDenied",
    "User: arn:aws:sts::000000000000:assumed-role/x is not authorized to perform this action",
);

/// An answer, the kind of error that it has to be, and a word that the hint must have.
type Case = (Refusal, &'static str, &'static str);

/// Of S3.
const OF_THE_STORE: [Case; 10] = [
    (SLOW_DOWN, "Starlift.Unavailable", "later"),
    (SKEWED, "Starlift.Config", "clock"),
    (DENIED, "Starlift.Permission", "grant"),
    // The key of the bucket is asked too often.
    (
        Refusal("400 Bad Request", "ThrottlingException", "You have exceeded the rate at which you may call KMS."),
        "Starlift.Unavailable",
        "later",
    ),
    (Refusal("400 Bad Request", "KMS.DisabledException", "The key is disabled."), "Starlift.Permission", "kms"),
    (
        Refusal("301 Moved Permanently", "PermanentRedirect", "The bucket must be addressed using another endpoint."),
        "Starlift.Config",
        "AWS_REGION",
    ),
    (
        Refusal(
            "400 Bad Request",
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'",
        ),
        "Starlift.Config",
        "AWS_REGION",
    ),
    (
        Refusal(
            "400 Bad Request",
            "IllegalLocationConstraintException",
            "The eu-west-1 location constraint is incompatible",
        ),
        "Starlift.Config",
        "AWS_REGION",
    ),
    (Refusal("400 Bad Request", "ExpiredToken", "The provided token has expired."), "Starlift.Permission", "renew"),
    (
        Refusal("403 Forbidden", "SignatureDoesNotMatch", "The request signature we calculated does not match."),
        "Starlift.Permission",
        "renew",
    ),
];

/// Of Secrets Manager and Systems Manager.
const OF_THE_SERVICES: [Case; 8] = [
    (Refusal("400 Bad Request", "ThrottlingException", "Rate exceeded"), "Starlift.Unavailable", "slow down"),
    (Refusal("503 Service Unavailable", "ServiceUnavailable", "busy"), "Starlift.Unavailable", "later"),
    (
        Refusal(
            "400 Bad Request",
            "InvalidSignatureException",
            "Signature expired: 20241120T113500Z is now earlier than 20241120T120000Z (20241120T121500Z - 15 min.)",
        ),
        "Starlift.Config",
        "clock",
    ),
    (
        Refusal("400 Bad Request", "InvalidSignatureException", "Signature not yet current: 20241120T121500Z"),
        "Starlift.Config",
        "clock",
    ),
    (
        Refusal(
            "400 Bad Request",
            "InvalidSignatureException",
            "Credential should be scoped to a valid region, not 'us-east-1'.",
        ),
        "Starlift.Config",
        "AWS_REGION",
    ),
    (
        Refusal("400 Bad Request", "ExpiredTokenException", "The security token included in the request is expired"),
        "Starlift.Permission",
        "renew",
    ),
    (
        Refusal("400 Bad Request", "UnrecognizedClientException", "The security token in the request is invalid."),
        "Starlift.Permission",
        "renew",
    ),
    (
        Refusal("400 Bad Request", "AccessDeniedException", "User: arn:aws:sts::0:role/x is not authorized to do this"),
        "Starlift.Permission",
        "grant",
    ),
];

/// A lab with a gate before its server, and credentials with a token that nobody may read.
struct Place {
    lab: Lab,
    gate: Gate,
}

impl Place {
    async fn new() -> Place {
        let lab = Lab::new().await;
        let gate = Gate::start(lab.server.port()).await;
        Place { lab, gate }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let mut environment =
            self.lab.environment_with("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{}", self.gate.port));
        environment.push(("AWS_SESSION_TOKEN".into(), CANARIES[2].into()));
        environment
    }

    async fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for stage in STAGES {
            functions.push(Function::start(stage, &self.environment()).await);
        }
        functions
    }

    /// Manifests of lake and star, and what the warehouse says it has loaded.
    async fn committed(&self) -> (Vec<String>, Vec<String>, i64) {
        let context = self.lab.context("", &self.lab.warehouse).await;
        let lake = context.lake().unwrap().list("_manifests", 1_000).await.unwrap();
        let star = context.star().unwrap().list("_manifests", 1_000).await.unwrap();
        let warehouse = self.lab.cluster.connect(&self.lab.warehouse).await.unwrap();
        let loaded = warehouse.query_one("select count(*) from starlift.ledger", &[]).await.unwrap().get(0);
        (lake, star, loaded)
    }

    async fn change(&self, word: &str) {
        self.lab.change(&format!("update staff set first_name = '{word}' where staff_id = 1")).await;
    }

    /// Invokes a function that is refused: told by kind and hint, without a secret, and with nothing committed.
    async fn is_refused(&self, function: &mut Function, run_id: &str, (refusal, kind, hint): Case) {
        let before = self.committed().await;
        let answer = function.invoke(run_id, "{}").await;
        // Whatever it said, the tries in between too.
        let said = function.peek().join("\n");
        let (message, line) = function.failed(answer, kind).await;
        assert_no_secret(&format!("{message}{line}{said}"));
        assert!(self.gate.open() > 0, "nothing was asked: {message}");
        assert!(line["hint"].as_str().unwrap().contains(hint), "{refusal:?}: {message}");
        // object_store hides the answer behind a redirection.
        let is_named = message.contains(refusal.1) || refusal.1 == "PermanentRedirect";
        assert!(is_named, "{refusal:?}: {message}");
        assert_eq!(self.committed().await, before, "{refusal:?}");
        assert!(function.is_alive(), "{refusal:?}");
    }
}

fn quiet(lines: &[String]) -> bool {
    lines.iter().all(|line| !alarms(line) && serde_json::from_str::<Value>(line).unwrap()["level"] != "ERROR")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_refuses_is_told_by_its_kind_and_the_next_run_heals() {
    let place = Place::new().await;
    let mut functions = place.functions().await;
    for (number, case) in OF_THE_STORE.into_iter().enumerate() {
        place.change(&format!("Ada{number}")).await;
        for (stage, function) in STAGES.iter().zip(&mut functions) {
            // All three classes in every stage; the rest in the one that is asked first.
            if *stage == "ingest" || number < 3 {
                place.gate.refuse(Asked::Store, case.0);
                place.is_refused(function, "refused", case).await;
            }
            if *stage == "ingest" || number < 3 || number + 1 == OF_THE_STORE.len() {
                function.result(&format!("healed-{number}"), "{}").await;
                assert!(quiet(&function.said().await), "{case:?}");
            }
        }
    }
    place.lab.assert_star_equals_source(&place.lab.warehouse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_refused_is_none_and_the_next_run_makes_it() {
    let place = Place::new().await;
    let mut functions = place.functions().await;
    for (number, case) in [(SLOW_DOWN, "Starlift.Unavailable", "run again"), (DENIED, "Starlift.Permission", "grant")]
        .into_iter()
        .enumerate()
    {
        place.change(&format!("Grace{number}")).await;
        let run = format!("run-{number}");
        for (stage, function) in STAGES.iter().zip(&mut functions) {
            if *stage != "load" {
                place.gate.refuse(Asked::Manifest, case.0);
                place.is_refused(function, &run, case).await;
            }
            // The same run once more, as the state machine tries it.
            function.result(&run, "{}").await;
        }
        place.lab.assert_star_equals_source(&place.lab.warehouse).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_that_passes_is_waited_for_and_wakes_nobody() {
    let place = Place::new().await;
    place.gate.refuse_times(Asked::Secret, OF_THE_SERVICES[0].0, 3);
    let mut ingest = Function::start("ingest", &place.environment()).await;
    assert_eq!(place.gate.open(), 3);
    place.gate.refuse_times(Asked::Store, SLOW_DOWN, 3);
    assert!(ingest.result("one", "{}").await["staff"].is_string());
    assert_eq!(place.gate.open(), 3);
    assert!(quiet(&ingest.said().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_secrets_manager_refuses_is_told_by_its_kind_and_the_next_run_heals() {
    let place = Place::new().await;
    for (number, case) in OF_THE_SERVICES.into_iter().enumerate() {
        place.change(&format!("Alan{number}")).await;
        // A secret that was read is kept: each case has a process of its own, which is refused from its start.
        place.gate.refuse(Asked::Secret, case.0);
        let mut ingest = Function::start("ingest", &place.environment()).await;
        place.is_refused(&mut ingest, "refused", case).await;
        assert!(ingest.result(&format!("healed-{number}"), "{}").await["staff"].is_string());
        assert!(quiet(&ingest.said().await), "{case:?}");
    }
    place.gate.refuse(Asked::Secret, OF_THE_SERVICES[0].0);
    let mut load = Function::start("load", &place.environment()).await;
    let mut transform = Function::start("transform", &place.environment()).await;
    transform.result("healed", "{}").await;
    place.is_refused(&mut load, "refused", OF_THE_SERVICES[0]).await;
    assert_eq!(load.result("healed", "{}").await, json!(null));
    place.lab.assert_star_equals_source(&place.lab.warehouse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_parameter_store_refuses_is_told_by_its_kind_and_the_next_run_heals() {
    let place = Place::new().await;
    let name = "/starlift/dev/lake_ingest";
    place.lab.server.put_parameter(name, &format!("s3://{BUCKET}/ingest"), false).await.unwrap();
    let mut environment = place.environment();
    environment.retain(|(known, _)| known != "STARLIFT_LAKE_INGEST");
    environment.push(("STARLIFT_LAKE_INGEST".into(), format!("ssm:{name}")));
    // Answers are read in one place for both services: one of each class here.
    for (number, case) in [OF_THE_SERVICES[0], OF_THE_SERVICES[2], OF_THE_SERVICES[7]].into_iter().enumerate() {
        place.change(&format!("Edsger{number}")).await;
        place.gate.refuse(Asked::Parameter, case.0);
        let mut ingest = Function::start("ingest", &environment).await;
        place.is_refused(&mut ingest, "refused", case).await;
        assert!(ingest.result(&format!("healed-{number}"), "{}").await["staff"].is_string());
    }
}
