"""A local Flyte that answers with what people can fill, filled."""

import pkgutil
import struct
from collections.abc import Callable, MutableMapping
from functools import cache
from importlib import import_module
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STREAM = "application/connect+proto"
END = 2  # the flag of a stream's last message


@cache
def kind_of(method: str) -> Any:
    """Return the class of a method's answers; the method is named ``package.Service:Method``."""
    service, _, name = method.partition(":")
    package = import_module(service.rpartition(".")[0])
    for each in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if each.name.endswith("service_pb2"):  # which stubs do not always import
            import_module(each.name)
    found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return message_factory.GetMessageClass(found.output_type)


class Changing:
    """Wraps the services of a local Flyte, and changes what it answers to the app.

    Attributes:
        changes: What is done with the messages of a method, by its name, such as ``ListRuns``.
        changed: How many messages have been changed.
    """

    def __init__(self, services: MutableMapping[str, ASGIApp]) -> None:
        self.changes: dict[str, Callable[[Any], None]] = {}
        self.changed = 0
        for path, service in [*services.items()]:
            if path != "/oauth2":
                services[path] = self._wrapped(service)

    def _wrapped(self, service: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            method = scope["path"].strip("/").replace("/", ":")
            change = self.changes.get(method.rpartition(":")[2])
            if change is None:
                await service(scope, receive, send)
                return
            plain = [pair for pair in scope["headers"] if b"accept-encoding" not in pair[0]]
            is_stream = Headers(scope=scope).get("content-type") == STREAM
            arrived = bytearray()

            def changed(message: bytes) -> bytes:
                parsed = kind_of(method).FromString(message)
                change(parsed)
                self.changed += 1
                return bytes(parsed.SerializeToString())

            async def send_changed(message: Message) -> None:
                if message["type"] == "http.response.start":
                    kept = [each for each in message["headers"] if each[0] != b"content-length"]
                    await send({**message, "headers": kept})
                    return
                arrived.extend(message.get("body", b""))
                body, is_last = b"", not message.get("more_body")
                while is_stream and len(arrived) >= 5:
                    flag, length = struct.unpack(">BI", arrived[:5])
                    if len(arrived) < 5 + length:
                        break
                    part = bytes(arrived[5 : 5 + length])
                    part = part if flag & END else changed(part)
                    body += struct.pack(">BI", flag, len(part)) + part
                    del arrived[: 5 + length]
                if not is_stream and is_last:
                    body = changed(bytes(arrived))
                await send({**message, "body": body})

            await service({**scope, "headers": plain}, receive, send_changed)

        return serve
