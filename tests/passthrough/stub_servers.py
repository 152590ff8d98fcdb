"""Stub server for Flyte, or for a cluster of Flyte, with responses that a test sets."""

from flyteidl2.dataproxy.dataproxy_service_pb2 import TailLogsResponse
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

MEBIBYTE = bytes(1024 * 1024)


class StubServer:
    """ASGI server that records requests, and sends a fixed response."""

    def __init__(self) -> None:
        self.address = ""
        self.answers()

    def answers(
        self, *answer: bytes, kind: str = "proto", is_all: bool = True, **headers: object
    ) -> None:
        """Forget what was received, and from now on send this answer, or nothing after it."""
        self.received: list[Message] = []
        self.sent = 0  # bytes
        self.answer, self.is_all = answer, is_all
        self.headers = {"content-type": f"application/{kind}", **headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        self.received.append({**scope, "headers": request.headers, "body": body})
        headers = [(name.encode(), str(value).encode()) for name, value in self.headers.items()]
        status = 307 if "location" in self.headers else 200 if self.answer else 404
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in self.answer:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            self.sent += len(piece)
        if not self.is_all:
            await receive()  # until the client has left
        await send({"type": "http.response.body", "body": b""})


def envelope(data: bytes, flags: int = 0) -> bytes:
    """Return a message of a stream in the Connect protocol."""
    return bytes([flags]) + len(data).to_bytes(4, "big") + data


def lines(*texts: str) -> bytes:
    """Return a message with lines of a log."""
    message = TailLogsResponse()
    for text in texts:
        message.logs.add().lines.add(message=text)
    return envelope(message.SerializeToString())
