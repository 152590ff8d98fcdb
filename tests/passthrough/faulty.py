"""Faulty connections: proxies in front of the local Flyte, and clients that send what they like."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

from anyio.from_thread import start_blocking_portal

from local_flyte.apps import free_port
from local_flyte.testing import bearer

HOST = "127.0.0.1"


def head(path: str, *headers: str, person: str = "alice") -> bytes:
    """Return a person's request."""
    lines = [f"GET {path} HTTP/1.1", "Host: app", f"Authorization: {bearer(person)}"]
    return "\r\n".join([*lines, *headers, "\r\n"]).encode()


def connected(url: str, sent: bytes, buffer: int | None = None) -> socket.socket:
    """Connect to an app, with this buffer for its answer, and send something."""
    client, address = socket.socket(), urlsplit(url)
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(60)
    client.connect((address.hostname, address.port))
    with suppress(OSError):  # closed before all of it was sent
        client.sendall(sent)
    return client


Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Fault = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]  # gets each part of an answer


async def hang(_: bytes, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def cut(part: bytes, writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        writer.write(part)
        if not part.endswith(b"\r\n\r\n"):  # it is not just the head
            writer.close()  # once the message has been sent


async def die(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def answer_with(body: bytes, kind: str = "application/proto", status: str = "200 OK") -> Fault:
    """Return a fault that answers with this instead."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"

    async def answer(part: bytes, writer: asyncio.StreamWriter) -> None:
        if part.startswith(b"HTTP/"):
            writer.write(head.encode() + body)

    return answer


class Proxy:
    """An event loop in a thread that forwards connections; requests always reach their port."""

    def __init__(self, to_port: int, to_tls: ssl.SSLContext | None = None) -> None:
        self.port = free_port()  # it does not always listen there
        self.forwarded = 0  # bytes
        self.fault: Fault | None = None
        self.meets: Callable[[bytes], object] = lambda _: True  # by a request's head
        self._to_port, self._to_tls = to_port, to_tls
        self._open = set[asyncio.StreamWriter]()
        self._server: asyncio.Server | None = None
        self._in_thread = start_blocking_portal()
        self._portal = self._in_thread.__enter__()

    def listen(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen, and forward requests; close existing connections."""
        self.fault = None
        self._portal.call(self._serve, self._connected, tls)

    def refuse_connections(self) -> None:
        """Stop listening, and close existing connections."""
        self._portal.call(self._close)

    def never_answer_hellos(self) -> None:
        """Accept connections, and never answer."""
        self._portal.call(self._serve, self._keep)

    def close(self) -> None:
        """Close everything."""
        self._portal.call(self._close)
        self._in_thread.__exit__(None, None, None)

    async def _close(self) -> None:
        if self._server:
            self._server.close()
            for writer in [*self._open]:
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, connected: Connected, tls: ssl.SSLContext | None = None) -> None:
        await self._close()
        while True:
            try:
                self._server = await asyncio.start_server(connected, HOST, self.port, ssl=tls)
            except OSError:  # a process that is just being started has a copy of the closed socket
                await asyncio.sleep(0.05)
            else:
                return

    async def _keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(OSError):
            await reader.read()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(HOST, self._to_port, ssl=self._to_tls)
        both = {writer, requests}
        self._open |= both
        fault: Fault | None = None  # of the request that was sent last

        async def forward(part: bytes, to: asyncio.StreamWriter) -> None:
            self.forwarded += len(part)
            to.write(part)
            await to.drain()

        async def ask() -> None:
            nonlocal fault
            while part := await reader.read(65536):
                if part.startswith(b"POST "):
                    fault = self.fault if self.meets(part) else None
                await forward(part, requests)

        async def answer() -> None:
            pass_on: Fault = forward
            while part := await answers.read(65536):
                if part.startswith(b"HTTP/"):  # its rest may come later
                    pass_on = fault or forward
                await pass_on(part, writer)

        forwarding = [asyncio.create_task(each()) for each in (ask, answer)]
        await asyncio.wait(forwarding, return_when=asyncio.FIRST_COMPLETED)
        for task in forwarding:
            task.cancel()
        await asyncio.gather(*forwarding, return_exceptions=True)
        for each in both:
            each.transport.abort()
        self._open -= both
