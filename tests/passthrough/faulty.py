"""Faulty connections: proxies in front of the local Flyte, and clients that send what they like."""

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trustme

from local_flyte.apps import free_port
from local_flyte.testing import bearer

HOST = "127.0.0.1"
WEBSOCKET = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
"""Headers of a handshake."""


def head(path: str, *headers: str, method: str = "GET") -> bytes:
    """Return the head of a request by alice."""
    lines = [f"{method} {path} HTTP/1.1", "Host: app", f"Authorization: {bearer('alice')}"]
    return "\r\n".join([*lines, *headers, "\r\n"]).encode()


def connected(url: str, sent: bytes, buffer: int | None = None) -> socket.socket:
    """Connect to an app, with a small buffer for its answer if one is given, and send something."""
    client, address = socket.socket(), urlsplit(url)
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(60)
    client.connect((address.hostname, address.port))
    with suppress(OSError):  # closed before all of it was sent
        client.sendall(sent)
    return client


Fault = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]
"""A function that handles the start of an answer: its head, and at least a byte of its body."""


async def hang(_: asyncio.StreamWriter, __: bytes) -> None:
    await asyncio.Event().wait()


async def answer_slowly(writer: asyncio.StreamWriter, answer: bytes) -> None:
    for byte in answer:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.1)


async def cut(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(answer)
    await asyncio.sleep(0.5)  # so that the message arrives before the end
    writer.transport.abort()


async def die(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.transport.abort()


def answer_with(body: bytes, kind: str = "application/proto", status: str = "200 OK") -> Fault:
    """Return a fault that answers with this instead."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"

    async def answer(writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(head.encode() + body)

    return answer


class Proxy:
    """An event loop in a thread, with connections from and to."""

    def __init__(self) -> None:
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server: asyncio.Server | None = None

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _close(self) -> None:
        if self._server:
            self._server.close()
            for writer in [*self._open]:
                writer.transport.abort()
            await self._server.wait_closed()
            this = asyncio.current_task()
            await asyncio.gather(*asyncio.all_tasks() - {this}, return_exceptions=True)

    def close(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()


class FaultyWay(Proxy):
    """A TLS proxy. Every request that can be sent reaches Flyte."""

    def __init__(self, flyte_port: int, flyte_authority: Path, folder: Path) -> None:
        super().__init__()
        self._upstream = HOST, flyte_port, ssl.create_default_context(cafile=flyte_authority)
        good, other = trustme.CA(), trustme.CA()
        self._certificates = {
            "good": self._context(good.issue_cert(HOST)),
            "another host's": self._context(good.issue_cert("flyte.example")),
            "unknown authority's": self._context(other.issue_cert(HOST)),
        }
        self.trusted = folder / "trusted.pem"
        self.trusted.write_bytes(flyte_authority.read_bytes() + good.cert_pem.bytes())
        self.fault: Fault | None = None
        self.meets: Callable[[bytes], object] = lambda _: True
        """Decides by a request's head whether the fault applies to its answer."""
        self.port = free_port()  # it does not always listen there
        self.listen()

    def _context(self, certificate: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context

    # For tests

    def listen(self, certificate: str = "good") -> None:
        """Listen with this certificate, and forward requests; close existing connections."""
        self.fault = None
        self._run(self._serve(self._connected, self._certificates[certificate]))

    def never_answer_hellos(self) -> None:
        """Accept connections, and never answer."""
        self._run(self._serve(self._keep))

    def refuse_connections(self) -> None:
        """Stop listening."""
        self._run(self._close())

    # Connections

    async def _serve(
        self,
        connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        tls: ssl.SSLContext | None = None,
    ) -> None:
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
        try:
            with suppress(OSError):
                while await reader.read(1024):
                    pass
        finally:
            writer.transport.abort()
            self._open.discard(writer)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        host, port, context = self._upstream
        answers, requests = await asyncio.open_connection(host, port, ssl=context)
        forwarding: asyncio.Task[None] | None = None
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = b""
                if length := re.search(rb"content-length: *(\d+)", head, re.IGNORECASE):
                    body = await reader.readexactly(int(length[1]))
                elif re.search(rb"transfer-encoding: *chunked", head, re.IGNORECASE):
                    body = await reader.readuntil(b"0\r\n\r\n")
                if forwarding:
                    forwarding.cancel()
                fault = self.fault if self.meets(head) else None
                requests.write(head + body)
                forwarding = asyncio.create_task(self._forward(answers, writer, fault))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            if forwarding:
                forwarding.cancel()
            requests.transport.abort()
            writer.transport.abort()
            self._open.discard(writer)

    async def _forward(
        self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None
    ) -> None:
        if fault:
            answer = b""
            while not answer.partition(b"\r\n\r\n")[2]:
                answer += await answers.read(65536)
            await fault(writer, answer)
            return
        while data := await answers.read(65536):
            writer.write(data)


class Wire(Proxy):
    """A TCP proxy whose connections can go dead without being closed."""

    def __init__(self, to_port: int) -> None:
        super().__init__()
        self._to_port, self.forwarded = to_port, 0
        self._dead: set[asyncio.StreamWriter] = set()
        self._server = self._run(asyncio.start_server(self._connected, HOST, 0))
        assert self._server
        self.port = self._server.sockets[0].getsockname()[1]

    def die(self) -> None:
        """Forward nothing more on the connections that exist, in either direction."""
        self._dead |= self._open

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(HOST, self._to_port)
        both = {writer, requests}
        self._open |= both

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    if sink not in self._dead:
                        self.forwarded += len(data)
                        sink.write(data)
                        await sink.drain()
            for each in both:
                each.transport.abort()

        await asyncio.gather(pump(reader, requests), pump(answers, writer))
        self._open -= both
