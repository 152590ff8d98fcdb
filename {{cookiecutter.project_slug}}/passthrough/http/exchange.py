"""A request and its response, or a WebSocket: what the two have to do with each other."""

from typing import Literal

from starlette.types import Message, Receive, Scope, Send

from ..calls.deadline import Deadline
from ..calls.request_calls import RequestCalls
from ..settings import Settings
from .incoming import Incoming
from .outgoing import STARTS, Outgoing
from .stopping import stopping


class Exchange:
    """What comes from the client, what is sent to it, and the calls to Flyte in between."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, settings: Settings, request_id: str
    ) -> None:
        """Begin; the response and all calls to Flyte get the ``request_id``."""
        self.is_http = scope["type"] == "http"
        self.deadline = Deadline(settings.flyte_timeout)
        self.calls = RequestCalls(settings.flyte_timeout, request_id, self.deadline)
        self.client = Incoming(receive, self.is_http, settings.largest_body, self.calls.end)
        self.response = Outgoing(send, self.is_http, request_id)

    @property
    def ended_by(self) -> Literal["left", "unread", "stopping"] | None:
        """What has ended the request before the app has: its client, or the server that stops."""
        is_cancelled = self.client.cancel_scope.expired()  # by its client, or by `stopping`
        return self.client.ended_by or ("stopping" if is_cancelled else None)

    async def send(self, message: Message) -> None:
        """Send a message to the client, or hold it back."""
        self.calls.reset()
        kind = message["type"]
        if kind in STARTS or kind == "websocket.accept":
            self.deadline.remove()
        elif kind == "http.response.body" and not message.get("more_body"):
            self.stop()  # background tasks come after this and are not cancelled
        await self.response.send(message)
        if kind == "websocket.accept":
            self.client.read_ahead()
        elif kind in STARTS and self.response.is_event_stream:
            stopping.expire_at_stop(self.client.cancel_scope)

    def stop(self) -> None:
        """Let the app return by itself, whether the client leaves or the server is stopped."""
        stopping.forget(self.client.cancel_scope)
        self.client.stop()
