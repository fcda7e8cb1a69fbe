"""A broker that takes each Publish after a pause, and keeps nothing."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from typing import Any


def serve(connection: Connection, pause: float) -> None:
    """Run it, and say its address; until it is killed."""
    import grpc
    from google.pubsub_v1.types import PublishRequest, PublishResponse

    async def publish(request: Any, context: Any) -> Any:
        await asyncio.sleep(pause)
        return PublishResponse(message_ids=[str(i) for i in range(len(request.messages))])

    async def run() -> None:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        method = grpc.unary_unary_rpc_method_handler(
            publish,
            request_deserializer=PublishRequest.deserialize,
            response_serializer=PublishResponse.serialize,
        )
        handlers = {"Publish": method}
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", handlers)]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        connection.send(f"127.0.0.1:{port}")
        await server.wait_for_termination()

    asyncio.run(run())
