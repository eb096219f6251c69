"""`make demo-aws`: the service on this machine, from the first scheduled run to the message that a person would get.

Exit code 0 only if the change is in the warehouse, what the warehouse holds equals the source, and the alarm was delivered.
"""

import sys
import time
from typing import Any

from local import runs
from local.cloud import until
from local.service import CLOUD_WAREHOUSE, Service, service

STAGES = ("ingest", "transform", "load")


def say(text: str = "") -> None:
    """A line of the story."""
    print(text, flush=True)


def first_run(running: Service) -> runs.Run:
    """The schedule starts a run by itself."""
    stack = running.stack
    (schedule,) = (resource["values"] for resource in stack.of("aws_scheduler_schedule"))
    say(f"The schedule says {schedule['schedule_expression']}; here it is told rate(1 minute), to wait less.")
    stack.schedule("rate(1 minute)")
    begun = time.monotonic()
    run = until(lambda: runs.newest(stack, set()), "the schedule to start a run", seconds=150, pause=1)
    say(f"After {time.monotonic() - begun:.0f} s it starts run {run.id}.")
    ended(run)
    return run


def ended(run: runs.Run) -> dict[str, Any]:
    """Waits for a run that has to succeed."""
    found = run.wait()
    seconds = (found["stopDate"] - found["startDate"]).total_seconds()
    say(f"  {' -> '.join(run.states())}: {found['status']} after {seconds:.1f} s")
    if found["status"] != "SUCCEEDED":
        raise AssertionError(f"{found.get('error')}: {found.get('cause')}")
    return found


def stop_schedule(running: Service) -> None:
    """From here on runs are started by hand, so that each shows one thing."""
    client = running.stack.cloud.client("scheduler")
    (schedule,) = (resource["values"] for resource in running.stack.of("aws_scheduler_schedule"))
    client.delete_schedule(Name=schedule["name"], GroupName=schedule["group_name"])


def counts(running: Service) -> None:
    """What the warehouse holds."""
    found = running.tables(CLOUD_WAREHOUSE)
    say("  the warehouse: " + ", ".join(f"{name} {len(rows):,}" for name, rows in found.items()))


def change(running: Service) -> None:
    """ToteSys changes, and the warehouse follows."""
    database = running.database
    city = "Demoville"
    (address, before), *_ = database.rows("totesys", "select address_id, city from address order by 1 limit 1")
    database.execute("totesys", "update address set city = %s, last_updated = now() where address_id = %s", city, address)
    say(f"\nIn ToteSys, address {address} moves from {before} to {city}. The next run:")
    ended(runs.start(running.stack))
    query = f"select city from current_dim_location where location_id = {address}"
    arrived = database.rows(CLOUD_WAREHOUSE, query)
    say(f"  dim_location {address} is in {arrived[0][0]}")
    if arrived != [(city,)]:
        raise AssertionError(f"the warehouse says {arrived}")
    say("\n`starlift verify` compares source, lake and warehouse, over the same buckets and secrets:")
    say("  " + running.starlift("verify").stdout.strip().splitlines()[-1])


def alarm(running: Service) -> None:
    """A wrong password comes to a CRITICAL line, an alarm, and a message."""
    stack = running.stack
    inbox = runs.Inbox(stack)
    old = running.database.credentials("source")
    new = "changed-by-somebody-else"
    running.database.execute("postgres", f"alter role \"{old['user']}\" password '{new}'")
    say("\nSomebody changes the password of ToteSys's role and forgets the secret. The next run:")
    since = time.time()
    run = runs.start(stack)
    found = run.wait()
    say(f"  {' -> '.join(run.states())}: {found['status']}, {found.get('error')}")
    if (found["status"], found.get("error")) != ("FAILED", "Starlift.Permission"):
        raise AssertionError(f"expected Starlift.Permission, found {found.get('error')}: {found.get('cause')}")
    lines = inbox.evaluate("ingest", since - 1)
    if len(lines) != 1:
        raise AssertionError(f"the shipped filter found {len(lines)} critical lines")
    (line,) = lines
    say("  the shipped filter finds one line in the log of the function:")
    for field in ("level", "stage", "run_id", "kind", "message", "detail", "hint"):
        if field in line:
            say(f"    {field:8} {line[field]}")
    if any(password in str(lines) + str(found) for password in (old["password"], new)):
        raise AssertionError("a password is in the log")
    message = inbox.next()
    say(f"  and the alarm delivers to whoever subscribed: {message['AlarmName']} is {message['NewStateValue']}")
    stack.put_secret("source", {**old, "password": new})
    say("\nThe secret gets the new password. The next run reads it and heals:")
    ended(runs.start(stack))


def main() -> int:
    """Tells the story."""
    begun = time.monotonic()
    with service() as running:
        stack = running.stack
        say(f"A local AWS server on {stack.cloud.endpoint} has both stacks as Terraform renders them, with access control on:")
        kinds = ("aws_s3_bucket", "aws_lambda_function", "aws_iam_role", "aws_cloudwatch_metric_alarm")
        say(
            "  "
            + ", ".join(f"{len(stack.of(kind))} {kind.removeprefix('aws_').replace('_', ' ')}s" for kind in kinds)
            + ", one state machine"
        )
        orders = running.database.number("totesys", "select count(*) from sales_order")
        say(f"A private PostgreSQL has ToteSys, with {orders:,} sales orders, and an empty warehouse.\n")
        first_run(running)
        stop_schedule(running)
        counts(running)
        change(running)
        alarm(running)
    say(f"\nDone in {time.monotonic() - begun:.0f} s; nothing is left behind.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
