"""Runs the local AWS server, with two things that ministack 1.5.33 leaves out and this project needs.

AWS hands the `ClientContext` of an invocation to the function's runtime as a header; a run takes its id from there. ministack
reads it neither from Step Functions nor from Invoke. Here it is carried along: from the task's arguments to the worker by a
context variable, from the worker to the answer of `/runtime/invocation/next` by the id of the request.

The policies of the buckets ask whether a put has `If-None-Match`; ministack knows no such condition. Here the header becomes one.
"""

import base64
import contextvars
from typing import Any

from ministack.core import iam_actions, lambda_runtime
from ministack.services import stepfunctions

HEADER = "Lambda-Runtime-Client-Context"
given: contextvars.ContextVar[str | None] = contextvars.ContextVar("client_context", default=None)
by_request: dict[str, str] = {}


def carry_from_state_machine() -> None:
    """A task's `ClientContext` goes into the context variable while its function is called."""
    invoke = stepfunctions._invoke_resource

    def carrying(resource: str, arguments: Any) -> Any:
        encoded = arguments.get("ClientContext") if isinstance(arguments, dict) else None
        token = given.set(base64.b64decode(encoded).decode() if encoded else None)
        try:
            return invoke(resource, arguments)
        finally:
            given.reset(token)

    stepfunctions._invoke_resource = carrying


def carry_to_function() -> None:
    """The worker remembers the context by request, and its runtime API sends it with the event."""
    worker = lambda_runtime.ProvidedWorker
    invoke, build = worker.invoke, worker._build_handler_class

    def invoking(self: Any, event: Any, request_id: str, **more: Any) -> Any:
        context = given.get()
        if context is not None:
            by_request[request_id] = context
        try:
            return invoke(self, event, request_id, **more)
        finally:
            by_request.pop(request_id, None)

    def building(self: Any, generation: int, pending: Any) -> type:
        handler = build(self, generation, pending)

        class Handler(handler):
            def send_header(self, keyword: str, value: str) -> None:
                super().send_header(keyword, value)
                if keyword == "Lambda-Runtime-Aws-Request-Id" and value in by_request:
                    super().send_header(HEADER, by_request[value])

        return Handler

    worker.invoke, worker._build_handler_class = invoking, building


def know_conditional_writes() -> None:
    """`s3:if-none-match` is a condition of a put, as on AWS."""
    describe = iam_actions._s3_object_context

    def describing(action: str, query: dict, path: str, headers: dict) -> dict:
        context = describe(action, query, path, headers)
        if action == "s3:PutObject" and headers.get("if-none-match"):
            context["s3:if-none-match"] = headers["if-none-match"]
        return context

    iam_actions._s3_object_context = describing


def main() -> None:
    """Serves until it is ended."""
    from ministack.app import main as serve

    carry_from_state_machine()
    carry_to_function()
    know_conditional_writes()
    serve()


if __name__ == "__main__":
    main()
