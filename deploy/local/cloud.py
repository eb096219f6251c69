"""A local AWS server as a process of its own, and clients for it."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import boto3
from botocore.config import Config

REGION = "eu-west-2"
T = TypeVar("T")
# The server's administrator: whoever comes with this key may do everything. Functions get keys of their roles.
KEY, SECRET = "localadministrator", "local-administrator-secret"


class Cloud:
    """A running server. Its clients are those of the administrator."""

    def __init__(self, port: int, folder: pathlib.Path, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.folder = folder
        self.process = process
        self.endpoint = f"http://127.0.0.1:{port}"

    def client(self, service: str) -> Any:
        """A client of one service."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}, read_timeout=120),
        )

    def environment(self) -> dict[str, str]:
        """What a program needs to reach the server as its administrator."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }


@contextlib.contextmanager
def cloud(wait_scale: float = 1.0) -> Iterator[Cloud]:
    """Starts a server on a free port of loopback, with access control on, and ends it. Waits of state machines are scaled."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="starlift-aws-"))
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STARLIFT_", "MINISTACK_"))},
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        # Access keys are checked, and what their roles may do.
        "AUTH": "true",
        "SFN_WAIT_SCALE": str(wait_scale),
        "STATE_DIR": str(folder / "state"),
        "TMPDIR": str(folder),
        "LOG_LEVEL": "WARNING",
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.server"],
            cwd=pathlib.Path(__file__).resolve().parents[1],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: _healthy(port), "the local AWS server to answer", seconds=60)
        yield Cloud(port, folder, process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port of loopback that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(look: Callable[[], T | None], what: str, seconds: float = 60, pause: float = 0.1) -> T:
    """What a look finds, as soon as it finds something."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(pause)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_ministack/health", timeout=2) as answer:
            return bool(json.load(answer))
    except (OSError, ValueError):
        return False
