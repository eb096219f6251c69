"""The rendered state machine, with stand-ins for the functions: each error comes to its retry or its catch."""

import io
import json
import pathlib
import tempfile
import unittest
import uuid
import zipfile
from typing import Any, ClassVar

import boto3

from local import runs
from local.cloud import cloud
from local.stack import Stack

STANDIN = pathlib.Path(__file__).resolve().parents[1] / "standin/bootstrap"
KEYS = {"address": "address/2024/11/20/113500000000.parquet"}
# Waits between tries, which the rendered machine measures in seconds, pass this much faster.
FASTER = 0.02


def standin_zips(folder: pathlib.Path) -> None:
    """The stand-in as each stage's zip."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        file.writestr(entry, STANDIN.read_bytes())
    for stage in ("ingest", "transform", "load"):
        (folder / f"{stage}.zip").write_bytes(packed.getvalue())


class Machine(unittest.TestCase):
    """One server for all tests."""

    stack: ClassVar[Stack]
    calls: ClassVar[pathlib.Path]

    @classmethod
    def setUpClass(cls) -> None:
        zips = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        standin_zips(zips)
        cls.calls = zips / "calls"
        cls.calls.mkdir()
        running = cls.enterClassContext(cloud(wait_scale=FASTER))
        cls.stack = Stack(running, zips)
        cls.stack.make()

    def setUp(self) -> None:
        self.script("ingest", result=KEYS)
        self.script("transform", result={"dim_location": "dim_location/2024/11/20/113501000000.parquet"})
        self.script("load", result=None)

    def script(self, stage: str, **script: Any) -> None:
        """What a stage's stand-in does from now on."""
        self.stack.configure(stage, environment={"SCRIPT": json.dumps(script), "CALLS": str(self.calls)})

    def called(self, run: runs.Run, stage: str) -> list[dict[str, Any]]:
        """What a stage was given in a run, call by call."""
        file = self.calls / f"{run.id}.{stage}"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def as_role(self, stage: str, policy: str | None = None) -> Any:
        """An S3 client with the rights of a stage's role: those of another role with the same boundary and policy, or with the policy
        that is given, since nobody but Lambda may be the stage's."""
        iam, sts = self.stack.cloud.client("iam"), self.stack.cloud.client("sts")
        (own,) = (r["values"]["policy"] for r in self.stack.of("aws_iam_role_policy") if r.get("index") == stage)
        (boundary,) = {r["values"]["permissions_boundary"] for r in self.stack.of("aws_iam_role")}
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
        name = f"as-{stage}-{uuid.uuid4().hex[:8]}"
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust), PermissionsBoundary=boundary)
        role = made["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="same", PolicyDocument=policy or own)
        credentials = sts.assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
        return boto3.client(
            "s3",
            endpoint_url=self.stack.cloud.endpoint,
            region_name=self.stack.names.region,
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
        )

    def test_each_stage_gets_what_the_one_before_returned_and_the_run_id_of_the_execution(self) -> None:
        run = runs.start(self.stack, {"tables_to_query": ["address"]})
        ended = run.wait()
        self.assertEqual(ended["status"], "SUCCEEDED", ended)
        self.assertEqual(run.states(), ["Ingest", "Transform", "Load"])
        self.assertEqual([c["event"] for c in self.called(run, "ingest")], [{"tables_to_query": ["address"]}])
        self.assertEqual([c["event"] for c in self.called(run, "transform")], [KEYS])
        self.assertEqual(json.loads(ended["output"]), None)
        for stage in ("ingest", "transform", "load"):
            self.assertEqual([c["custom"] for c in self.called(run, stage)], [{"run_id": run.id, "will_retry": "true"}])

    def test_nothing_new_runs_all_three_stages(self) -> None:
        self.script("ingest", result={})
        self.script("transform", result={})
        run = runs.start(self.stack)
        self.assertEqual(run.wait()["status"], "SUCCEEDED")
        self.assertEqual([c["event"] for c in self.called(run, "load")], [{}])

    def test_what_passes_by_itself_is_tried_again_as_the_same_run(self) -> None:
        self.script("load", errors=["Starlift.Unavailable", "Starlift.Unavailable"], result=None)
        run = runs.start(self.stack)
        self.assertEqual(run.wait()["status"], "SUCCEEDED")
        self.assertEqual(run.failures(), ["Starlift.Unavailable"] * 2)
        self.assertEqual({c["custom"]["run_id"] for c in self.called(run, "load")}, {run.id})

    def test_what_does_not_pass_ends_the_run_and_says_so_at_the_last_try(self) -> None:
        self.script("transform", errors=["Starlift.Unavailable"] * 9, result=None)
        run = runs.start(self.stack)
        ended = run.wait()
        self.assertEqual((ended["status"], ended["error"]), ("FAILED", "Starlift.Unavailable"))
        self.assertEqual(run.states()[-1], "StillUnavailable")
        self.assertEqual(len(run.failures()), 4, "one try and three more")
        self.assertEqual([c["custom"]["will_retry"] for c in self.called(run, "transform")], ["true"] * 3 + ["false"])
        self.assertTrue(ended["cause"].startswith("transform: "), ended["cause"])

    def test_what_lambda_says_of_itself_is_tried_again(self) -> None:
        errors = ["Lambda.ENILimitReachedException", "Lambda.ResourceNotReadyException", "Runtime.OutOfMemory"]
        self.script("transform", errors=errors, result={})
        run = runs.start(self.stack)
        self.assertEqual(run.wait()["status"], "SUCCEEDED")
        self.assertEqual(run.failures(), errors)

    def test_what_needs_a_person_is_not_tried_again(self) -> None:
        for number, kind in enumerate(["Config", "Permission", "Drift", "Data", "Unsupported"]):
            stage = ("ingest", "transform", "load")[number % 3]
            with self.subTest(kind=kind, stage=stage):
                self.setUp()
                self.script(stage, errors=[f"Starlift.{kind}"] * 9, result={})
                run = runs.start(self.stack)
                ended = run.wait()
                self.assertEqual((ended["status"], ended["error"]), ("FAILED", f"Starlift.{kind}"))
                self.assertEqual(run.states()[-1], "NeedsAPerson")
                self.assertEqual(run.failures(), [f"Starlift.{kind}"])
                self.assertEqual(json.loads(ended["cause"].split(": ", 1)[1])["errorMessage"], "as the script says")

    def test_a_bug_of_ours_is_not_tried_again(self) -> None:
        self.script("ingest", errors=["Starlift.Internal"] * 9, result={})
        run = runs.start(self.stack)
        self.assertEqual(run.wait()["error"], "Starlift.Internal")
        self.assertEqual((run.states()[-1], run.failures()), ("Broken", ["Starlift.Internal"]))

    def test_an_error_that_nobody_knows_ends_the_run(self) -> None:
        self.script("ingest", errors=["Something.Else"] * 9, result={})
        run = runs.start(self.stack)
        self.assertEqual(run.wait()["error"], "Something.Else")
        self.assertEqual(run.states()[-1], "Broken")

    def test_a_function_that_dies_is_started_again_with_the_same_run(self) -> None:
        for stage in ("ingest", "transform", "load"):
            with self.subTest(stage=stage):
                self.setUp()
                self.script(stage, errors=["exit"], result={} if stage != "load" else None)
                run = runs.start(self.stack)
                ended = run.wait()
                self.assertEqual(ended["status"], "SUCCEEDED", ended)
                self.assertEqual(run.failures(), ["Runtime.ExitError"])
                self.assertEqual({c["custom"]["run_id"] for c in self.called(run, stage)}, {run.id})

    def test_a_function_that_hangs_is_ended_and_started_again(self) -> None:
        self.script("ingest", errors=["sleep"], sleep=30, result={})
        self.stack.configure("ingest", timeout=1)
        try:
            run = runs.start(self.stack)
            ended = run.wait()
        finally:
            self.stack.configure("ingest", timeout=90)
        self.assertEqual(ended["status"], "SUCCEEDED", ended)
        self.assertEqual(run.failures(), ["Sandbox.Timedout"])

    def test_runs_that_overlap_have_ids_of_their_own(self) -> None:
        self.script("ingest", errors=["sleep"], sleep=1, result={})
        first, second = runs.start(self.stack), runs.start(self.stack)
        self.assertEqual({first.wait()["status"], second.wait()["status"]}, {"SUCCEEDED"})
        for run in (first, second):
            self.assertEqual([c["custom"]["run_id"] for c in self.called(run, "load")], [run.id])

    def test_a_critical_line_reaches_whoever_subscribed_to_the_topic(self) -> None:
        inbox = runs.Inbox(self.stack)
        self.script("load", errors=["Starlift.Data"] * 9, result=None)
        runs.start(self.stack).wait()
        found = inbox.evaluate("load", since=0)
        self.assertGreaterEqual(len(found), 1)
        message = inbox.next()
        self.assertEqual((message["AlarmName"], message["NewStateValue"]), (f"{self.stack.names.name}-critical", "ALARM"))

    def test_functions_may_do_what_their_roles_say_and_nothing_else(self) -> None:
        """The server checks rights, or the service's tests would show nothing of them."""
        client = self.as_role("load")
        star, lake = self.stack.names.bucket("transform"), self.stack.names.bucket("ingest")
        self.assertEqual(client.list_objects_v2(Bucket=star)["KeyCount"], 0)
        for refused in (
            lambda: client.list_objects_v2(Bucket=lake),
            lambda: client.put_object(Bucket=star, Key="x", Body=b"x"),
            lambda: client.delete_object(Bucket=star, Key="x"),
        ):
            with self.assertRaises(client.exceptions.ClientError) as raised:
                refused()
            self.assertEqual(raised.exception.response["Error"]["Code"], "AccessDenied")

    def test_no_policy_gives_more_than_the_boundary_allows(self) -> None:
        everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        client = self.as_role("load", json.dumps(everything))
        star = self.stack.names.bucket("transform")
        client.put_object(Bucket=star, Key="dim_x/y.parquet", Body=b"x")
        for refused in (
            lambda: client.delete_object(Bucket=star, Key="dim_x/y.parquet"),
            lambda: client.put_bucket_policy(Bucket=star, Policy=json.dumps(everything)),
            lambda: client.create_bucket(Bucket="another", CreateBucketConfiguration={"LocationConstraint": self.stack.names.region}),
        ):
            with self.assertRaises(client.exceptions.ClientError) as raised:
                refused()
            self.assertEqual(raised.exception.response["Error"]["Code"], "AccessDenied")
        self.stack.cloud.client("s3").delete_object(Bucket=star, Key="dim_x/y.parquet")

    def test_a_manifest_is_created_and_never_replaced(self) -> None:
        client = self.as_role("ingest")
        lake = self.stack.names.bucket("ingest")
        client.put_object(Bucket=lake, Key="_manifests/1.json", Body=b"first", IfNoneMatch="*")
        for condition, code in (({"IfNoneMatch": "*"}, "PreconditionFailed"), ({}, "AccessDenied")):
            with self.assertRaises(client.exceptions.ClientError) as raised:
                client.put_object(Bucket=lake, Key="_manifests/1.json", Body=b"second", **condition)
            self.assertEqual(raised.exception.response["Error"]["Code"], code)
        client.put_object(Bucket=lake, Key="address/2024/11/20/113500000000.parquet", Body=b"data files come in parts")


if __name__ == "__main__":
    unittest.main()
