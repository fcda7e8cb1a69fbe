"""A server of the one call of Secret Manager that is made, for Google's client: no emulator has it.

It answers as https://cloud.google.com/secret-manager/docs/reference/rpc says.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.cloud.secretmanager_v1.types import service

from pipelines import secrets


class SecretManager(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Its secrets, by resource: bytes, or the status that is answered instead.

    Attributes:
        asked: the resources that were asked for.
    """

    def __init__(self) -> None:
        self.secrets: dict[str, bytes | grpc.StatusCode] = {}
        self.asked: list[str] = []

    def service(self, details: Any) -> Any:
        """The handler of a call."""
        if not details.method.endswith("SecretManagerService/AccessSecretVersion"):
            return None
        return grpc.unary_unary_rpc_method_handler(
            self._access,
            service.AccessSecretVersionRequest.deserialize,
            service.AccessSecretVersionResponse.serialize,
        )

    def _access(self, request: Any, context: Any) -> Any:
        self.asked.append(request.name)
        found = self.secrets.get(request.name, grpc.StatusCode.NOT_FOUND)
        if isinstance(found, grpc.StatusCode):
            context.abort(found, "no")
        return service.AccessSecretVersionResponse(name=request.name, payload={"data": found})


@contextmanager
def secret_manager() -> Iterator[tuple[SecretManager, dict[str, str]]]:
    """A running one, and the variable that leads to it."""
    manager = SecretManager()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[manager])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    secrets._kept.clear()
    try:
        yield manager, {secrets.EMULATOR: f"127.0.0.1:{port}"}
    finally:
        server.stop(None).wait()
        secrets._kept.clear()
