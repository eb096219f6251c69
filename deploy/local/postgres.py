"""A private PostgreSQL with a living ToteSys in it: what `starlift demo --keep` leaves, started again.

So source, history and roles are those of `make demo`, and the warehouse that the demo loaded through the command line is there to
compare with.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg

from local.cloud import until

SOURCE, WAREHOUSE = "totesys", "warehouse"


class Postgres:
    """The running server. Connections are its superuser's, over a socket that nobody else can reach."""

    def __init__(self, kept: pathlib.Path, bin_dir: pathlib.Path) -> None:
        self.kept = kept
        self.data = kept / "data"
        self.project = kept / "project"
        self.bin_dir = bin_dir
        self.port = int(self.credentials("source")["port"])

    def credentials(self, of: str) -> dict[str, Any]:
        """What the demo wrote for `source` or `warehouse`."""
        name = {"source": "db_credentials.json", "warehouse": "warehouse_credentials.json"}[of]
        return json.loads((self.project / name).read_text())

    def connect(self, database: str) -> psycopg.Connection:
        """A connection that commits each statement."""
        return psycopg.connect(host=str(self.kept), port=self.port, user="postgres", dbname=database, autocommit=True)

    def execute(self, database: str, statement: str, *values: Any) -> None:
        """One statement."""
        with self.connect(database) as connection:
            connection.execute(statement, values or None)  # type: ignore[arg-type]

    def rows(self, database: str, query: str) -> list[tuple[Any, ...]]:
        """What a query says."""
        with self.connect(database) as connection:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]

    def number(self, database: str, query: str) -> int:
        """The one number that a query says."""
        return int(self.rows(database, query)[0][0])

    def control(self, action: str, *options: str) -> None:
        """`pg_ctl` as the owner of the data."""
        owner = self.data.stat()
        command = [str(self.bin_dir / "pg_ctl"), "-w", "-D", str(self.data), *options, action]
        if os.geteuid() == 0:
            command = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups", *command]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def start(self) -> None:
        """Starts it where the demo had it."""
        self.control("start", "-o", f"-p {self.port}", "-l", str(self.kept / "server.log"))
        until(lambda: self.rows("postgres", "select 1"), "PostgreSQL to answer")

    def stop(self) -> None:
        """Stops it without waiting for clients."""
        self.control("stop", "-m", "fast")


@contextlib.contextmanager
def totesys(starlift: pathlib.Path, scale: float = 0.05) -> Iterator[Postgres]:
    """A server with ToteSys in it, and a warehouse that the command line has loaded. Removed at the end."""
    done = subprocess.run(
        [str(starlift), "demo", "--keep", "--days", "0", "--scale", str(scale), "--json"],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if not name.startswith(("STARLIFT_", "AWS_"))},
    )
    kept = pathlib.Path(json.loads(done.stdout)["kept"])
    try:
        postgres = Postgres(kept, bin_dir())
        # The superuser's password is the demo's secret. Nobody but us may enter the folder of the socket.
        access = kept / "data/pg_hba.conf"
        access.write_text("local all postgres trust\n" + access.read_text())
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()
    finally:
        shutil.rmtree(kept, ignore_errors=True)


def bin_dir() -> pathlib.Path:
    """Where PostgreSQL's programs are, looked for as the sandbox does."""
    given = os.environ.get("STARLIFT_PG_BIN")
    on_path = shutil.which("pg_ctl")
    installed = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if given:
        return pathlib.Path(given)
    if installed:
        return installed[-1].parent
    if on_path:
        return pathlib.Path(on_path).resolve().parent
    raise FileNotFoundError("PostgreSQL is not installed: set STARLIFT_PG_BIN to the folder that has pg_ctl")
