"""A faulty connection to Flyte, where answers get lost: a proxy in front of the local Flyte."""

import asyncio
import datetime
import re
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import trustme

from local_flyte.apps import free_port

HOST = "127.0.0.1"

Fault = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]
"""A function that handles the start of an answer: its head, and at least a byte of its body."""


async def hang_before_headers(_: asyncio.StreamWriter, __: bytes) -> None:
    await asyncio.Event().wait()


async def hang_after_headers(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    await asyncio.Event().wait()


async def answer_slowly(writer: asyncio.StreamWriter, answer: bytes) -> None:
    for byte in answer:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.1)


async def die_before_headers(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.transport.abort()


async def die_in_the_body(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(answer[:-1])
    writer.close()


async def answer_garbage(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"\x00\xff no HTTP\r\n\r\n")
    writer.close()


async def answer_a_page(writer: asyncio.StreamWriter, _: bytes) -> None:
    page = b"<!doctype html><title>Bad Gateway</title>"
    head = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % len(page) + page)


async def answer_no_message(writer: asyncio.StreamWriter, _: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: 1\r\n\r\n"
    writer.write(head + b"\xff")


class FaultyWay:
    """A TLS proxy in a thread. Every request that can be sent reaches Flyte."""

    def __init__(self, flyte_port: int, flyte_authority: Path, folder: Path) -> None:
        self._upstream = HOST, flyte_port, ssl.create_default_context(cafile=flyte_authority)
        self._folder = folder
        good, other = trustme.CA(), trustme.CA()
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        self._certificates = {
            "good": self._context(good.issue_cert(HOST)),
            "expired": self._context(good.issue_cert(HOST, not_after=past)),
            "another host's": self._context(good.issue_cert("flyte.example")),
            "unknown authority's": self._context(other.issue_cert(HOST)),
        }
        self.trusted = folder / "trusted.pem"
        self.trusted.write_bytes(flyte_authority.read_bytes() + good.cert_pem.bytes())
        self.fault: Fault | None = None
        self.meets: Callable[[bytes], object] = lambda _: True
        """Decides by a request's head whether the fault applies to its answer."""
        self.cut_after = 0
        """How many of the next streams are cut off after their first message."""
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = free_port()  # it does not always listen there
        self._server: asyncio.Server | None = None
        self.listen()

    def _context(self, certificate: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    # For tests

    def listen(self, certificate: str = "good") -> None:
        """Listen with this certificate, and forward requests; close existing connections."""
        self.fault, self.cut_after = None, 0
        self._run(self._serve(self._connected, self._certificates[certificate]))

    def reset_connections(self) -> None:
        """Accept connections, and reset them."""
        self._run(self._serve(self._reset))

    def never_answer_hellos(self) -> None:
        """Accept connections, and never answer."""
        self._run(self._serve(self._keep))

    def refuse_connections(self) -> None:
        """Stop listening."""
        self._run(self._close())

    def stop(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

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

    async def _close(self) -> None:
        if self._server:
            self._server.close()
            for writer in [*self._open]:
                writer.transport.abort()
            await self._server.wait_closed()
            this = asyncio.current_task()
            await asyncio.gather(*asyncio.all_tasks() - {this}, return_exceptions=True)

    async def _keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(OSError):
                while await reader.read(1024):
                    pass
        finally:
            writer.transport.abort()
            self._open.discard(writer)

    async def _reset(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

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
                forwarding = asyncio.create_task(self._forward(answers, writer, fault, head))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            if forwarding:
                forwarding.cancel()
            requests.transport.abort()
            writer.transport.abort()
            self._open.discard(writer)

    async def _forward(
        self,
        answers: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fault: Fault | None,
        head: bytes,
    ) -> None:
        if fault:
            answer = b""
            while not answer.partition(b"\r\n\r\n")[2]:
                answer += await answers.read(65536)
            await fault(writer, answer)
            return
        while data := await answers.read(65536):
            writer.write(data)
            is_stream = b"/Watch" in head or b"/TailLogs" in head
            if is_stream and self.cut_after and b"\r\n\r\n" not in data[-4:]:
                self.cut_after -= 1
                await asyncio.sleep(0.5)  # so that the message arrives before the end
                writer.transport.abort()
                return


class Wire:
    """A TCP proxy in a thread, whose connections can go dead without being closed."""

    def __init__(self, to_port: int) -> None:
        self._to_port, self.forwarded = to_port, 0
        self._dead: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        starting = asyncio.start_server(self._connected, HOST, 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(60)
        self.port = self._server.sockets[0].getsockname()[1]

    def die(self) -> None:
        """Forward nothing more on the connections that exist, in either direction."""
        self._dead |= self._open

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        for writer in [*self._open]:
            writer.transport.abort()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

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
