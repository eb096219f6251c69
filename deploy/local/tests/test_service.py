"""The whole service on the local AWS server: real functions, real rights, real PostgreSQL."""

import contextlib
import http.server
import json
import os
import pathlib
import re
import signal
import threading
import time
import unittest
from collections.abc import Iterator
from typing import Any, ClassVar

from local import runs
from local.cloud import until
from local.postgres import WAREHOUSE
from local.service import CLOUD_WAREHOUSE, Service, service
from local.stack import Stack

# Waits between tries of the state machine pass this much faster.
FASTER = 0.05


class TheService(unittest.TestCase):
    """One service for all tests; each leaves it healthy. They run in the order of their names: the first finds an empty lake."""

    running: ClassVar[Service]

    @classmethod
    def setUpClass(cls) -> None:
        cls.running = cls.enterClassContext(service(wait_scale=FASTER))

    def run_machine(self, event: dict[str, Any] | None = None) -> tuple[runs.Run, dict[str, Any]]:
        """A run, and how it ended."""
        run = runs.start(self.running.stack, event)
        return run, run.wait()

    def succeed(self, event: dict[str, Any] | None = None) -> runs.Run:
        """A run that has to succeed."""
        run, ended = self.run_machine(event)
        self.assertEqual(ended["status"], "SUCCEEDED", ended.get("cause"))
        return run

    def fails_with(self, error: str, state: str) -> tuple[runs.Run, str]:
        """A run that has to fail with this error, in this state; with what it says."""
        run, ended = self.run_machine()
        self.assertEqual((ended["status"], ended.get("error"), run.states()[-1]), ("FAILED", error, state), ended.get("cause"))
        return run, ended["cause"]

    def one_critical_line(self, stage: str, run: runs.Run) -> dict[str, Any]:
        """The one line that a run's failure has to come to."""
        found = [line for line in runs.critical(self.running.stack, stage) if line.get("run_id") == run.id]
        self.assertEqual(len(found), 1, found)
        return found[0]

    def equal_to_the_source(self) -> None:
        """`starlift verify` finds no difference."""
        self.running.starlift("verify", "--settle")

    def test_01_the_functions_make_of_the_same_source_what_the_command_line_makes(self) -> None:
        self.succeed()
        ours, theirs = self.running.tables(CLOUD_WAREHOUSE), self.running.tables(WAREHOUSE)
        self.assertGreaterEqual(len(ours), 11)
        self.assertEqual({name: len(rows) for name, rows in ours.items()}, {name: len(rows) for name, rows in theirs.items()})
        self.assertEqual(ours, theirs)
        for stage in ("ingest", "transform"):
            # The newest manifest has the smallest name; the command line may have made more after its first.
            (first,) = self.running.manifests(stage)
            theirs_first = sorted((self.running.database.project / f"lake/{stage}/_manifests").glob("*.json"))[-1]
            self.assertEqual(masked(first), masked(json.loads(theirs_first.read_text())))

    def test_02_a_run_without_changes_writes_no_data_file(self) -> None:
        before = {stage: self.running.objects(stage) for stage in ("ingest", "transform")}
        self.succeed()
        self.assertEqual({stage: self.running.objects(stage) for stage in ("ingest", "transform")}, before)

    def test_03_a_change_and_a_delete_arrive(self) -> None:
        database = self.running.database
        database.execute("totesys", "update currency set currency_code = 'CHF' where currency_id = 1")
        database.execute("totesys", "insert into department values (77001, 'Cloud', 'Leeds', 'Ada', now(), now())")
        (staff,) = database.rows("totesys", "select max(staff_id) from staff")[0]
        database.execute("totesys", "update staff set department_id = 77001 where staff_id = %s", staff)
        payments = database.rows(
            "totesys", "delete from payment where payment_id = (select max(payment_id) from payment) returning payment_id"
        )
        self.succeed()
        self.assertEqual(database.rows(CLOUD_WAREHOUSE, "select currency_code from current_dim_currency where currency_id = 1"), [("CHF",)])
        self.assertEqual(
            database.rows(CLOUD_WAREHOUSE, f"select department_name from current_dim_staff where staff_id = {staff}"), [("Cloud",)]
        )
        gone = f"select count(*) from current_fact_payment where payment_id = {payments[0][0]}"
        self.assertEqual(database.number(CLOUD_WAREHOUSE, gone), 0)
        self.equal_to_the_source()

    def test_04_an_event_that_names_tables_reads_these(self) -> None:
        self.succeed({"tables_to_query": ["design"]})

    def test_05_two_runs_that_overlap_do_no_harm(self) -> None:
        self.running.database.execute("totesys", "update address set district = 'Overlap' where address_id <= 3")
        both = [runs.start(self.running.stack) for _ in range(2)]
        for run in both:
            ended = run.wait()
            self.assertEqual(ended["status"], "SUCCEEDED", ended.get("cause"))
        self.equal_to_the_source()

    def test_06_a_function_that_is_killed_is_started_again_and_the_run_finishes(self) -> None:
        stack = self.running.stack
        for number, point in enumerate(KILLED_AT):
            with self.subTest(point=point):
                stage = point.split(".")[0]
                text = f"killed-{number}.json"
                self.running.database.execute("totesys", "update design set file_name = %s where design_id = 1", text)
                gate = stack.cloud.folder / f"gate-{number}"
                stack.configure(stage, environment={"STARLIFT_FAULT": f"{point}:wait={gate}"})
                run = runs.start(stack)
                met = gate.with_name(f"{gate.name}.met")
                until(met.exists, f"{stage} to reach {point}", seconds=60)
                kill(stack, stage)
                # The tries that follow pass the point.
                gate.touch()
                ended = run.wait()
                self.assertEqual(ended["status"], "SUCCEEDED", ended.get("cause"))
                self.assertEqual(run.failures(), ["Runtime.ExitError"])
                name = "select file_name from current_dim_design where design_id = 1"
                self.assertEqual(self.running.database.rows(CLOUD_WAREHOUSE, name), [(text,)])
                stack.configure(stage, environment={"STARLIFT_FAULT": ""})
        self.equal_to_the_source()

    def test_07_a_source_that_hangs_is_given_up_in_good_order(self) -> None:
        """A lock that somebody holds on a table outlasts the function's time."""
        stack, database = self.running.stack, self.running.database
        stack.configure("ingest", timeout=8)
        try:
            with database.connect("totesys") as holder, holder.transaction():
                holder.execute("lock table currency in access exclusive mode")
                run, cause = self.fails_with("Starlift.Unavailable", "StillUnavailable")
        finally:
            stack.configure("ingest", timeout=90)
        self.assertEqual(run.failures(), ["Starlift.Unavailable"] * 4, cause)
        self.one_critical_line("ingest", run)
        self.succeed()

    def test_08_a_password_that_was_rotated_is_read_again(self) -> None:
        database, stack = self.running.database, self.running.stack
        for of, user in (("source", "reader"), ("warehouse", "loader")):
            with self.subTest(of=of):
                credentials = database.credentials(of) if of == "source" else self.running.warehouse_credentials()
                new = f"rotated-{user}"
                database.execute("postgres", f"alter role \"{credentials['user']}\" password '{new}'")
                stack.put_secret(of, {**credentials, "password": new})
                # The functions have started with the old one, and are not started again.
                run = self.succeed()
                self.assertEqual(run.failures(), [])
                database.execute("postgres", f"alter role \"{credentials['user']}\" password '{credentials['password']}'")
                stack.put_secret(of, credentials)
        self.succeed()

    def test_09_bad_settings_need_a_person_and_heal(self) -> None:
        stack, database = self.running.stack, self.running.database
        source = database.credentials("source")
        secret = "wrong-" + source["password"]

        def restart(stage: str, **environment: str) -> None:
            stack.configure(stage, environment={"STARLIFT_TEST_START": str(time.time()), **environment})

        cases: list[tuple[str, str, str, Any]] = [
            ("a secret that is no JSON", "ingest", "Starlift.Config", lambda: put_text(stack, secret)),
            ("a secret without a password", "ingest", "Starlift.Config", lambda: stack.put_secret("source", {"user": "u", "host": "h"})),
            ("a wrong password", "ingest", "Starlift.Permission", lambda: stack.put_secret("source", {**source, "password": secret})),
        ]
        for mistake, stage, error, plant in cases:
            with self.subTest(mistake=mistake):
                manifests = self.running.objects(stage, manifests=True)
                plant()
                restart(stage)
                run, cause = self.fails_with(error, "NeedsAPerson")
                line = self.one_critical_line(stage, run)
                for text in (cause, json.dumps(line)):
                    self.assertNotIn(secret, text)
                    self.assertNotIn(source["password"], text)
                self.assertEqual(self.running.objects(stage, manifests=True), manifests)
                self.running.put_credentials()
                restart(stage)
                self.succeed()

    def test_10_a_missing_bucket_and_a_missing_secret_are_told(self) -> None:
        stack = self.running.stack
        right = f"s3://{stack.names.bucket('ingest')}"
        for setting, wrong, back in (
            ("STARLIFT_LAKE_INGEST", "s3://no-such-bucket-anywhere", right),
            ("STARLIFT_SOURCE_CREDENTIALS", "aws-secretsmanager:no-such-secret", "aws-secretsmanager:totesys_db_credentials"),
        ):
            with self.subTest(setting=setting):
                stack.configure("ingest", environment={setting: wrong})
                run, ended = self.run_machine()
                stack.configure("ingest", environment={setting: back})
                # A role may not even ask for what is not its own: either answer needs a person.
                self.assertEqual(run.states()[-1], "NeedsAPerson", ended)
                self.assertIn(ended["error"], {"Starlift.Config", "Starlift.Permission"})
                self.one_critical_line("ingest", run)
                self.succeed()

    def test_11_a_right_that_is_missing_is_told_and_nothing_is_committed(self) -> None:
        stack = self.running.stack
        iam = stack.cloud.client("iam")
        for stage, action in (("ingest", "s3:PutObject"), ("transform", "s3:ListBucket"), ("load", "secretsmanager:GetSecretValue")):
            with self.subTest(stage=stage, action=action):
                self.running.database.execute("totesys", "update design set file_location = %s where design_id = 2", f"/{stage}")
                role = next(r["values"] for r in stack.of("aws_iam_role_policy") if r.get("index") == stage)
                policy = json.loads(role["policy"])
                for statement in policy["Statement"]:
                    statement["Action"] = [a for a in statement["Action"] if a != action] or ["s3:GetObject"]
                iam.put_role_policy(RoleName=role["role"], PolicyName=role["name"], PolicyDocument=json.dumps(policy))
                stack.configure(stage, environment={"STARLIFT_TEST_START": str(time.time())})
                try:
                    run, _ = self.fails_with("Starlift.Permission", "NeedsAPerson")
                finally:
                    iam.put_role_policy(RoleName=role["role"], PolicyName=role["name"], PolicyDocument=role["policy"])
                    stack.configure(stage, environment={"STARLIFT_TEST_START": ""})
                self.one_critical_line(stage, run)
                self.succeed()
        self.equal_to_the_source()

    def test_12_a_wrong_event_is_refused(self) -> None:
        for event in ({"tables": ["address"]}, {"tables_to_query": "address"}, {"tables_to_query": ["no_such_table"]}, {"version": 2}):
            with self.subTest(event=event):
                run, ended = self.run_machine(event)
                self.assertEqual((ended["status"], ended.get("error")), ("FAILED", "Starlift.Config"), ended)
                self.one_critical_line("ingest", run)
        self.succeed()

    def test_13_a_critical_line_reaches_whoever_subscribed(self) -> None:
        inbox = runs.Inbox(self.running.stack)
        since = time.time() - 1
        run, _ = self.run_machine({"tables": []})
        found = [line for line in inbox.evaluate("ingest", since) if line["run_id"] == run.id]
        self.assertEqual(len(found), 1)
        self.assertTrue(found[0]["hint"])
        self.assertEqual(inbox.next()["NewStateValue"], "ALARM")

    def test_14_an_execution_that_comes_again_under_its_name_is_a_replay(self) -> None:
        """What a redrive of a run that was cut off does: the stages return what they recorded and commit nothing."""
        run = self.succeed()
        before = {stage: self.running.objects(stage, manifests=True) for stage in ("ingest", "transform")}
        stack = self.running.stack
        for stage in ("ingest", "transform", "load"):
            stack.configure(stage, environment={"STARLIFT_TEST_START": str(time.time())})
        machine = next(r["values"] for r in stack.of("aws_sfn_state_machine"))
        again = stack.cloud.client("stepfunctions").create_state_machine(
            name="again", definition=machine["definition"], roleArn=machine["role_arn"]
        )["stateMachineArn"]
        started = stack.cloud.client("stepfunctions").start_execution(stateMachineArn=again, name=run.id, input="{}")
        ended = runs.Run(stack, started["executionArn"]).wait()
        self.assertEqual(ended["status"], "SUCCEEDED", ended)
        self.assertEqual({stage: self.running.objects(stage, manifests=True) for stage in ("ingest", "transform")}, before)

    def test_15_logs_are_json_with_a_level_and_name_their_run(self) -> None:
        run = self.succeed()
        for stage in ("ingest", "transform", "load"):
            found = [line for line in runs.lines(self.running.stack, stage) if line.get("run_id") == run.id]
            self.assertTrue(found, stage)
            for line in found:
                self.assertIn(line["level"], {"INFO", "WARNING"}, line)

    def test_16_what_s3_refuses_ends_in_the_state_of_its_kind_and_the_next_run_heals(self) -> None:
        stack = self.running.stack
        cases = (
            (503, "SlowDown", "Starlift.Unavailable", "StillUnavailable", 4),
            (403, "RequestTimeTooSkewed", "Starlift.Config", "NeedsAPerson", 1),
            (400, "AuthorizationHeaderMalformed", "Starlift.Config", "NeedsAPerson", 1),
            (400, "ExpiredToken", "Starlift.Permission", "NeedsAPerson", 1),
        )
        for stage, (status, code, error, state, tries) in zip(("ingest", "transform", "load", "ingest"), cases, strict=True):
            with self.subTest(stage=stage, code=code), refusing(status, code) as endpoint:
                self.running.database.execute("totesys", "update design set file_location = %s where design_id = 3", f"/{code}")
                stack.configure(stage, environment={"AWS_ENDPOINT_URL_S3": endpoint})
                try:
                    # What stages before it committed stays.
                    own = [] if stage == "load" else [stage, "transform"]
                    before = [self.running.objects(of, manifests=True) for of in own]
                    loaded = self.running.tables(CLOUD_WAREHOUSE)
                    run, cause = self.fails_with(error, state)
                finally:
                    stack.configure(stage, environment={"AWS_ENDPOINT_URL_S3": ""})
                self.assertEqual(run.failures(), [error] * tries)
                self.assertIn(code, json.dumps(self.one_critical_line(stage, run)) + cause)
                self.assertEqual([self.running.objects(of, manifests=True) for of in own], before)
                self.assertEqual(self.running.tables(CLOUD_WAREHOUSE), loaded)
                self.succeed()
        self.equal_to_the_source()


@contextlib.contextmanager
def refusing(status: int, code: str) -> Iterator[str]:
    """An S3 that refuses everything with this answer."""
    body = f"<Error><Code>{code}</Code><Message>because</Message></Error>".encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def refuse(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = refuse

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


# Where processes are killed: before and after each commit (points of starlift_core::fault, which dev builds have).
KILLED_AT = (
    "ingest.before_manifest",
    "ingest.after_manifest",
    "transform.before_manifest",
    "transform.after_manifest",
    "load.before_commit",
    "load.after_commit",
)


def kill(stack: Stack, stage: str) -> None:
    """Ends the processes of a stage's function at once."""
    wanted = {b"AWS_LAMBDA_FUNCTION_NAME=" + f"{stack.names.name}-{stage}".encode(), b"AWS_ENDPOINT_URL=" + stack.cloud.endpoint.encode()}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                os.kill(int(folder.name), signal.SIGKILL)


def put_text(stack: Stack, text: str) -> None:
    """A secret that is no JSON."""
    stack.cloud.client("secretsmanager").put_secret_value(SecretId="totesys_db_credentials", SecretString=text)


def masked(value: Any, name: str = "") -> Any:
    """A manifest without what differs from one run to the next: ids, times, hashes, and the source's clock and counters."""
    if isinstance(value, dict):
        return {key: masked(item, key) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [masked(item, name) for item in value]
    if isinstance(value, str) and re.search(r"\d{4}/\d\d/\d\d/\d{12}", value):
        return re.sub(r"\d{4}/\d\d/\d\d/\d{12}", "<time>", value)
    return "<masked>" if name in MASKED else value


IDS = {"id", "lake_id", "run_id", "write_id"}
TIMES = {"at", "started", "finished", "read_at", "millis"}
HASHES_OF_OTHERS = {"previous_sha256", "upto_sha256", "checksum"}
# The server's counters go on between the two runs.
COUNTERS = {"xmin", "xmax", "lsn", "watermark"}
MASKED = IDS | TIMES | HASHES_OF_OTHERS | COUNTERS


if __name__ == "__main__":
    unittest.main()
