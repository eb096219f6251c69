"""A stand-in for the AWS provider that knows its schema and nothing else.

It answers GetProviderSchema and the Validate calls, so that `terraform validate` and, with `mock_provider`, `terraform test` work
without a registry. Every call that would plan or apply for real is left unanswered, which Terraform reports as an error.
"""

import base64
import gzip
import json
import pathlib
import tempfile
import threading
from concurrent import futures
from typing import Any

import grpc
from tf.gen import grpc_controller_pb2, grpc_controller_pb2_grpc, grpc_stdio_pb2_grpc, tfplugin_pb2_grpc
from tf.gen import tfplugin_pb2 as protocol
from tf.runner import _self_signed_cert as self_signed

SCHEMA: dict[str, Any] = json.loads(gzip.decompress((pathlib.Path(__file__).parent / "schema.json.gz").read_bytes()))
NESTING = protocol.Schema.NestedBlock
NESTINGS = {"list": NESTING.LIST, "set": NESTING.SET, "single": NESTING.SINGLE, "map": NESTING.MAP}


def block(described: dict[str, Any], in_set: bool = False) -> protocol.Schema.Block:
    """A block as the protocol has it. Within a set nothing may be of dynamic type."""

    def kind(attribute: dict[str, Any]) -> bytes:
        return json.dumps("string" if in_set and attribute["type"] == "dynamic" else attribute["type"]).encode()

    attributes = [
        protocol.Schema.Attribute(
            name=name,
            type=kind(attribute),
            required=attribute["required"],
            optional=attribute["optional"],
            computed=attribute["computed"],
        )
        for name, attribute in sorted(described["attributes"].items())
    ]
    blocks = []
    for name, nested in sorted(described["block_types"].items()):
        counted = nested["nesting"] not in ("single", "map")
        blocks.append(
            NESTING(
                type_name=name,
                block=block(nested["block"], in_set or nested["nesting"] == "set"),
                nesting=NESTINGS[nested["nesting"]],
                min_items=nested["min"] if counted else 0,
                max_items=nested["max"] if counted else 0,
            )
        )
    return protocol.Schema.Block(version=0, attributes=attributes, block_types=blocks)


def schema(described: dict[str, Any]) -> protocol.Schema:
    """The schema of the provider, a resource or a data source."""
    return protocol.Schema(version=0, block=block(described))


class Provider(tfplugin_pb2_grpc.ProviderServicer):
    """The calls of the plugin protocol that validating takes."""

    def GetMetadata(self, request, context):
        metadata = protocol.GetMetadata
        return metadata.Response(
            resources=[metadata.ResourceMetadata(type_name=name) for name in SCHEMA["resources"]],
            data_sources=[metadata.DataSourceMetadata(type_name=name) for name in SCHEMA["data"]],
        )

    def GetProviderSchema(self, request, context):
        return protocol.GetProviderSchema.Response(
            provider=schema(SCHEMA["provider"]),
            resource_schemas={name: schema(described) for name, described in SCHEMA["resources"].items()},
            data_source_schemas={name: schema(described) for name, described in SCHEMA["data"].items()},
        )

    def ValidateProviderConfig(self, request, context):
        return protocol.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request, context):
        return protocol.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request, context):
        return protocol.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request, context):
        return protocol.ConfigureProvider.Response()

    def GetFunctions(self, request, context):
        return protocol.GetFunctions.Response()

    def StopProvider(self, request, context):
        return protocol.StopProvider.Response()


class Controller(grpc_controller_pb2_grpc.GRPCControllerServicer):
    """Ends the process when Terraform says so."""

    def __init__(self, done: threading.Event) -> None:
        self.done = done

    def Shutdown(self, request, context):
        self.done.set()
        return grpc_controller_pb2.Empty()


class Output(grpc_stdio_pb2_grpc.GRPCStdioServicer):
    """Terraform asks for the plugin's output; there is none."""

    def StreamStdio(self, request, context):
        return iter([])


def main() -> None:
    """Serves until Terraform ends it."""
    done = threading.Event()
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", 64 << 20)])
    tfplugin_pb2_grpc.add_ProviderServicer_to_server(Provider(), server)
    grpc_controller_pb2_grpc.add_GRPCControllerServicer_to_server(Controller(done), server)
    grpc_stdio_pb2_grpc.add_GRPCStdioServicer_to_server(Output(), server)
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/provider.sock"
        certificate, credentials = self_signed()
        server.add_secure_port(f"unix://{socket}", credentials)
        server.start()
        print(f"1|6|unix|{socket}|grpc|" + base64.b64encode(certificate).decode().rstrip("="), flush=True)
        done.wait()
        server.stop(0)


if __name__ == "__main__":
    main()
