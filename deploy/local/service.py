"""Everything together: the local AWS server with the stacks and the real functions, and a PostgreSQL with ToteSys and a warehouse."""

import contextlib
import json
import os
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

from local import postgres
from local.cloud import cloud
from local.postgres import Postgres
from local.stack import Stack

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The functions' warehouse, beside the one that the command line has loaded.
CLOUD_WAREHOUSE = "warehouse_of_functions"
# Serial ids are given in the order of arrival, which is nobody's promise across two warehouses.
SERIALS = {"fact_sales_order": "sales_record_id", "fact_purchase_order": "purchase_record_id", "fact_payment": "payment_record_id"}


def target() -> pathlib.Path:
    """Cargo's target folder."""
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()


class Service:
    """The running service."""

    def __init__(self, stack: Stack, database: Postgres) -> None:
        self.stack = stack
        self.database = database
        self.put_credentials()

    def put_credentials(self) -> None:
        """Both secrets as they have to be."""
        self.stack.put_secret("source", self.database.credentials("source"))
        self.stack.put_secret("warehouse", self.warehouse_credentials())

    def warehouse_credentials(self) -> dict[str, Any]:
        """Those of the functions' warehouse."""
        return {**self.database.credentials("warehouse"), "database": CLOUD_WAREHOUSE}

    def environment(self) -> dict[str, str]:
        """What the command line needs to work on the functions' lake, star and warehouse."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("STARLIFT_", "AWS_"))},
            **self.stack.cloud.environment(),
            "STARLIFT_PROJECT": str(ROOT / "pipelines/totesys"),
            "STARLIFT_SOURCE_CREDENTIALS": "aws-secretsmanager:totesys_db_credentials",
            "STARLIFT_WAREHOUSE_CREDENTIALS": "aws-secretsmanager:totesys_warehouse_credentials",
            "STARLIFT_LAKE_INGEST": f"s3://{self.stack.names.bucket('ingest')}",
            "STARLIFT_LAKE_TRANSFORM": f"s3://{self.stack.names.bucket('transform')}",
        }

    def starlift(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command line on the functions' lake, star and warehouse, as an operator would use it."""
        done = subprocess.run(
            [str(target() / "debug/starlift"), *arguments], env=self.environment(), capture_output=True, text=True, timeout=300, check=False
        )
        if check and done.returncode != 0:
            raise AssertionError(f"starlift {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def empty_warehouse(self) -> None:
        """A new warehouse for the functions, with the tables of the star."""
        self.database.execute("postgres", f"drop database if exists {CLOUD_WAREHOUSE} with (force)")
        owner = self.database.credentials("warehouse")["user"]
        self.database.execute("postgres", f'create database {CLOUD_WAREHOUSE} owner "{owner}"')
        self.starlift("warehouse", "create")

    def objects(self, stage: str, manifests: bool = False) -> list[str]:
        """Keys of data files of a stage's bucket, or of its manifests."""
        client = self.stack.cloud.client("s3")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.stack.names.bucket(stage))
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return sorted(key for key in keys if key.startswith("_manifests/") is manifests and (manifests or not key.startswith("_claims/")))

    def manifests(self, stage: str) -> list[dict[str, Any]]:
        """The manifests of a stage's bucket, newest first."""
        client, bucket = self.stack.cloud.client("s3"), self.stack.names.bucket(stage)
        keys = self.objects(stage, manifests=True)
        return [json.loads(client.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys]

    def tables(self, database: str) -> dict[str, list[tuple[str, ...]]]:
        """All rows of the star in a warehouse, as text, sorted, without serial ids."""
        names = self.database.rows(
            database, "select tablename from pg_tables where schemaname = 'public' and tablename ~ '^(dim|fact)_' order by 1"
        )
        found = {}
        for (name,) in names:
            columns = self.database.rows(
                database, f"select column_name from information_schema.columns where table_schema = 'public' and table_name = '{name}'"
            )
            kept = sorted(f'"{column}"::text' for (column,) in columns if column != SERIALS.get(name))
            found[name] = sorted(
                tuple(str(value) for value in row) for row in self.database.rows(database, f'select {", ".join(kept)} from "{name}"')
            )
        return found


@contextlib.contextmanager
def service(wait_scale: float = 1.0, scale: float = 0.05, variables: dict[str, Any] | None = None) -> Iterator[Service]:
    """Starts everything, with an empty warehouse and no schedule, and ends it."""
    zips = target() / "lambda-dev"
    with postgres.totesys(target() / "debug/starlift", scale) as database, cloud(wait_scale) as running:
        stack = Stack(running, zips, variables)
        stack.make()
        started = Service(stack, database)
        started.empty_warehouse()
        yield started
