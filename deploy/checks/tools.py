"""The ready-made checkers: checkov, zizmor and the schema of workflows."""

import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from checks.failure import Failed
from checks.terraform import CHECKS, STACKS

ROOT = CHECKS.parents[1]
WORKFLOWS = ROOT / ".github/workflows"
DEPENDABOT = ROOT / ".github/dependabot.yml"
SKIPS = CHECKS / "checkov.yaml"
MAIN = "refs/heads/main"


def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = pathlib.Path(sys.executable).parent / tool
    environment = {**os.environ, "NO_COLOR": "1", "LOG_LEVEL": "ERROR"}
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=300, check=False, env=environment)


def skipped() -> dict[str, str]:
    """The checks that are passed over, with the reasons."""
    lines = [line for line in SKIPS.read_text().splitlines() if line.strip().startswith("- ")]
    found = [re.fullmatch(r"\s*- (CKV\w+)\s+# (.{30,})", line) for line in lines]
    if not all(found) or not found:
        raise Failed("checkov", f"every line of {SKIPS.name} needs a check and a reason")
    return {match[1]: match[2] for match in found if match}


def checkov(stacks: pathlib.Path = STACKS) -> None:
    """No finding but those with a reason, and no reason without a finding."""
    done = _run(
        "checkov", "--directory", str(stacks), "--framework", "terraform", "--skip-download", "--quiet", "--compact",
        "--output", "json",
    )  # fmt: skip
    try:
        results = json.loads(done.stdout)["results"]
    except (ValueError, KeyError, TypeError):
        raise Failed("checkov", done.stdout + done.stderr) from None
    accepted = skipped()
    failed = {(check["check_id"], check["check_name"], check["resource"]) for check in results["failed_checks"]}
    new = sorted(f"{resource}: {identity} {name}" for identity, name, resource in failed if identity not in accepted)
    if new:
        raise Failed("checkov", "\n".join(new))
    stale = sorted(set(accepted) - {identity for identity, _, _ in failed})
    if stale:
        raise Failed("checkov", f"{', '.join(stale)}: passed over, and nothing would fail")


def workflows(folder: pathlib.Path = WORKFLOWS) -> None:
    """Workflows have the shape that GitHub expects, and nothing that zizmor would not do."""
    files = sorted(str(file) for file in folder.glob("*.yml"))
    if not files:
        raise Failed("workflows", f"there are none in {folder}")
    done = _run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    if done.returncode != 0:
        raise Failed("schema of workflows", done.stdout + done.stderr)
    done = _run("zizmor", "--offline", "--no-progress", "--persona", "auditor", *files)
    if done.returncode != 0:
        raise Failed("zizmor", done.stdout + done.stderr)
    wrong = list(_order(folder))
    if wrong:
        raise Failed("workflows", "; ".join(wrong))
    done = _run("check-jsonschema", "--builtin-schema", "vendor.dependabot", str(DEPENDABOT))
    if done.returncode != 0:
        raise Failed("schema of dependabot.yml", done.stdout + done.stderr)


def _order(folder: pathlib.Path) -> Iterable[str]:
    """What follows what, which no schema knows."""
    import yaml

    # In YAML 1.1 `on` is a word for true.
    checks: dict[Any, Any] = yaml.safe_load((folder / "checks.yml").read_text())
    deploy: dict[Any, Any] = yaml.safe_load((folder / "deploy.yml").read_text())
    jobs = deploy["jobs"]
    if checks[True].get("push", {}) is not None or "pull_request" not in checks[True]:
        yield "every push and pull request has to be checked"
    if checks["concurrency"]["cancel-in-progress"] != f"${{{{ github.ref != '{MAIN}' }}}}":
        yield "no check of main is cut off by the next"
    if jobs.get("checks", {}).get("uses") != "./.github/workflows/checks.yml" or "checks" not in jobs["plan"]["needs"]:
        yield "a deployment waits for the checks"
    if deploy[True]["push"] != {"branches": ["main"]} or any(f"github.ref == '{MAIN}'" not in jobs[job].get("if", "") for job in jobs):
        yield "what is deployed comes from main alone"
    if jobs["apply"]["needs"] != "plan" or jobs["apply"].get("environment") is None:
        yield "a person sees the plan before it is applied"
