"""A Flyte that repeats what the local one has answered, with one answer changed."""

import json
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local_flyte.access import CALLER

STREAM = "application/connect+proto"
END = 2  # the flag of a stream's last message


Change = Callable[[str, bytes], Sequence[bytes | dict[str, str]]]
"""Returns the messages to send instead of one of a method's, or an error."""


@dataclass
class Answer:
    """An answer to a call, which may have several messages."""

    is_stream: bool
    messages: list[bytes] = field(default_factory=list)


class Repeating:
    """Wraps the services of a local Flyte.

    While it records, calls reach the local Flyte. Afterwards each call of an operation is answered
    as it was then, whoever calls, so that no case starts a run, or depends on another one.
    """

    def __init__(self, services: MutableMapping[str, ASGIApp]) -> None:
        self.answers: dict[str, dict[str, list[Answer]]] = defaultdict(lambda: defaultdict(list))
        """By operation and by method."""
        self.operation = ""
        self.records = True
        self.sent = 0
        """Bytes sent since the last case began."""
        self._calls: Counter[str] = Counter()
        self._change: Change
        for path, service in [*services.items()]:
            if path != "/oauth2":
                services[path] = self._wrapped(service)

    def begin(self, operation: str, change: Change | None = None) -> None:
        """Answer as an operation needs it, with messages changed by method."""
        self._change = change or (lambda _, message: [message])
        self.operation, self.sent = operation, 0
        self._calls.clear()

    def _wrapped(self, service: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if self.records and "cookie" not in Headers(scope=scope):  # from a task
                await service(scope, receive, send)
                return
            if self.records:
                await self._record(service, scope, receive, send)
                return
            method = scope["path"].strip("/").replace("/", ":")
            found = self.answers[self.operation].get(method) or next(
                (each[method] for each in self.answers.values() if method in each), None
            )
            if found is None:
                await service(scope, receive, send)
                return
            self._calls[method] += 1
            answer = found[min(self._calls[method], len(found)) - 1]
            while (await receive()).get("more_body"):
                pass
            await self._repeat(answer, method, scope, send)

        return serve

    async def _record(self, service: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        plain = [pair for pair in scope["headers"] if b"accept-encoding" not in pair[0]]
        kind = Headers(scope=scope).get("content-type", "")
        answer, body = Answer(kind == STREAM), bytearray()
        method = scope["path"].strip("/").replace("/", ":")
        recorded = self.answers[self.operation][method]

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                recorded.append(answer)
            body.extend(message.get("body", b""))
            if not answer.is_stream:
                answer.messages[:] = [bytes(body)]
            while answer.is_stream and len(body) >= 5:
                flag, length = struct.unpack(">BI", body[:5])
                if len(body) < 5 + length:
                    break
                if not flag & END:
                    answer.messages.append(bytes(body[5 : 5 + length]))
                del body[: 5 + length]
            await send(message)

        await service({**scope, "headers": plain}, receive, keep)

    async def _repeat(self, answer: Answer, method: str, scope: Scope, send: Send) -> None:
        made = [new for each in answer.messages for new in self._change(method, each)]
        if CALLER.get() is None:  # quote what was sent
            given = [Headers(scope=scope).get(name) for name in ("authorization", "cookie")]
            made = [{"code": "unauthenticated", "message": f"nobody has {given}"}]
        errors = [each for each in made if isinstance(each, dict)]
        messages = [each for each in made if isinstance(each, bytes)]
        status, kind, body = 200, "application/proto", b"".join(messages)
        if answer.is_stream:
            kind = STREAM
            last = json.dumps({"error": errors[0]} if errors else {}).encode()
            parts = [(0, each) for each in messages] + [(END, last)]
            body = b"".join(struct.pack(">BI", flag, len(each)) + each for flag, each in parts)
        elif errors:
            status, kind, body = 401, "application/json", json.dumps(errors[0]).encode()
        self.sent += len(body)
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
