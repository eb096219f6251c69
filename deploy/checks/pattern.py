"""The metric filter: what CloudWatch would say of a line, for patterns of the shape that this project uses.

No local server evaluates filters, so the harness applies the shipped pattern to the lines that functions wrote.
"""

import json
import re

from checks.failure import Failed
from checks.terraform import CHECKS, STACKS

SHIPPED = STACKS / "main/templates/critical.pattern"
CONSTANT = CHECKS.parents[1] / "crates/core/src/alarm.rs"
TERM = re.compile(r'\$\.(\w+)\s*=\s*"([^"]*)"')


def shipped() -> str:
    """The pattern that Terraform gives to CloudWatch."""
    return SHIPPED.read_text().strip()


def matches(pattern: str, line: str) -> bool:
    """Whether a pattern `{ $.field = "text" }`, or several such terms joined by `||`, matches a line."""
    inner = re.fullmatch(r"\{\s*(.*?)\s*\}", pattern)
    if inner is None:
        raise Failed("pattern", f"{pattern} is no pattern of JSON lines")
    terms = []
    for part in inner[1].split("||"):
        term = TERM.fullmatch(part.strip().removeprefix("(").removesuffix(")").strip())
        if term is None:
            raise Failed("pattern", f"{part.strip()} is no comparison of a field with a text")
        terms.append((term[1], term[2]))
    try:
        values = json.loads(line)
    except ValueError:
        return False
    return isinstance(values, dict) and any(values.get(field) == text for field, text in terms)


def check() -> None:
    """The pattern finds critical lines and no others, and is the one that the program's tests hold its lines against."""
    pattern = shipped()
    for line, expected in (
        ('{"level":"CRITICAL","message":"m"}', True),
        ('{"severity":"CRITICAL","level":"INFO"}', True),
        ('{"level":"ERROR","message":"CRITICAL"}', False),
        ('{"fields":{"level":"CRITICAL"}}', False),
        ("[CRITICAL] not JSON", False),
    ):
        if matches(pattern, line) is not expected:
            raise Failed("pattern", f"{pattern} and {line}: expected {expected}")
    if pattern not in CONSTANT.read_text().replace('\\"', '"'):
        raise Failed("pattern", f"{CONSTANT.name} and {SHIPPED.name} differ")
