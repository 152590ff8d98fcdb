"""Makes the Flyte SDK safe in a process that serves many callers.

The SDK is made for one user per process. `make_safe` changes it once, when the app starts, in the
few places that everything passes through; after that, use ``flyte.remote``, ``flyte.run`` and
``flyte.rerun`` as Flyte's documentation shows. Its docstring explains each place. No other module
touches a private name of the SDK. The app does not start with a version of flyte that lacks one of
these places.

`FlyteMiddleware` in ``request_scope.py`` calls this and sets the request that calls belong to.
"""

import asyncio
import dataclasses
import functools
import importlib
import inspect
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from contextlib import aclosing, contextmanager, suppress
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import flyte.errors
import httpx
import pyqwest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from flyte import remote
from google.protobuf.message import DecodeError
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from publicsuffixlist import PublicSuffixList

from .literals import sdk_types

Call = RequestContext[Any, Any]

PAUSES = (0.25, 0.5, 1.0)
"""Seconds before each retry of a call that only reads, while Flyte cannot be reached."""

LARGEST_MESSAGE = 8 * 1024 * 1024
"""Bytes in one message from Flyte. The inputs or outputs of a run are limited to 2 MiB."""

RENEWAL = 4
"""A watch of an action that is silent for this many times ``timeout`` is opened again."""

LONGEST_ERROR = 1000  # characters of Flyte's error message
SHORTEST_SECRET = 8
QUOTE = 12  # consecutive characters of a credential that count as a quote

REFUSED = {
    "Action.download_code": "serve code from its own source, such as its repository",
    "Action.get_report": "link to the run's page, run.url, which shows its report",
    "Action.show_logs": "use get_logs.aio(), which returns the lines instead of printing them",
    "Artifact.to_python": "pass the artifact to flyte.run as an input, or show artifact.url",
    "Run.download_code": "serve code from its own source, such as its repository",
    "Run.get_report": "link to the run's page, run.url, which shows its report",
    "Run.show_logs": "use get_logs.aio(), which returns the lines instead of printing them",
    "App.show_logs": "link to the app's page, app.url, which shows its log",
    "flyte.with_runcontext(mode='hybrid')": "leave the mode out, and the task runs on Flyte",
    "flyte.with_runcontext(mode='local')": "leave the mode out, and the task runs on Flyte",
}
"""Calls that are refused because they print, open an address from Flyte, or run a task here."""


class StartError(SystemExit):
    """The app cannot start. The message says why and what to do, without a traceback."""


class UnsupportedFlyteError(StartError):
    """The installed flyte lacks a place that `make_safe` changes. The message says what to pin."""


class NotForManyCallersError(RuntimeError):
    """This part of the SDK is unsafe with many callers. The message says what to use instead."""


class DeadlineExceededError(flyte.errors.RuntimeSystemError):
    """Flyte did not answer in time. Not a ``TimeoutError``: the SDK would subscribe again."""

    def __init__(self) -> None:
        super().__init__("DeadlineExceeded", "Flyte did not answer in time")


class TooLargeError(ConnectError):
    """A stored value is too large, or nested too deep, to be shown."""

    def __init__(self, text: str) -> None:
        super().__init__(Code.OUT_OF_RANGE, text)


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits on calls to Flyte.

    Attributes:
        timeout: Seconds to wait for the answer to a call, or for the first message of a watch.
        data_addresses: Further clusters that get credentials, as ``https://host[:port]``. Those
            in the domain of Flyte's own address need not be listed.
        anonymous: Whether to call Flyte without credentials if there are none.
        pauses: Seconds before each retry of a call that could not be delivered.
    """

    timeout: float = 30.0
    data_addresses: frozenset[str] = frozenset()
    anonymous: bool = False
    pauses: tuple[float, ...] = PAUSES


class Calls:
    """One request's open calls to Flyte, and the tasks fetched for it."""

    def __init__(
        self,
        limits: Limits,
        request_id: str | None = None,
        deadline: asyncio.Timeout | None = None,
    ) -> None:
        self.limits, self.request_id, self._deadline = limits, request_id, deadline
        self.tasks: dict[Any, remote.TaskDetails] = {}
        self.seconds = 0.0
        """Total time spent in calls with a single answer."""
        self.subject: str | None = None
        """Flyte's identifier of the caller, if the endpoint has looked it up."""
        self._cancel: dict[Any, Callable[[], object]] = {}
        self._ended = False

    def begin(self, key: Any, cancel: Callable[[], object]) -> None:
        """Record a call and how to cancel it.

        Raises:
            asyncio.CancelledError: The request has ended.
        """
        if self._ended:
            raise asyncio.CancelledError("the request that made this call to Flyte has ended")
        self._cancel[key] = cancel

    def time_left(self) -> float:
        """Return the seconds left to answer the request."""
        when = self._deadline and self._deadline.when()
        return when - asyncio.get_running_loop().time() if when else self.limits.timeout

    def take_time(self) -> None:
        """Extend the deadline when a run is started: the caller must learn that it was."""
        if self._deadline and self._deadline.when() and not self._deadline.expired():
            now = asyncio.get_running_loop().time()
            self._deadline.reschedule(
                max(self._deadline.when() or 0, now + 2 * self.limits.timeout)
            )

    def done(self, key: Any) -> None:
        """Forget a call that has been answered."""
        self._cancel.pop(key, None)

    def end(self) -> None:
        """Cancel open calls, and refuse new ones."""
        self._ended = True
        for cancel in [*self._cancel.values()]:
            with suppress(RuntimeError):  # its event loop is closed
                cancel()


current_calls: ContextVar[Calls | None] = ContextVar("current_calls", default=None)
"""The calls of the current request."""

_without_request = Limits()


def current_limits() -> Limits:
    """Return what calls may do in the request that is being served."""
    calls = current_calls.get()
    return calls.limits if calls else _without_request


def belongs_to_the_request(task: asyncio.Future[Any] | None) -> Callable[[], None]:
    """Cancel a task when its request ends; return a function to call when it is done."""
    calls = current_calls.get()
    if not calls or not task:
        return lambda: None
    loop = task.get_loop()
    calls.begin(task, lambda: loop.call_soon_threadsafe(task.cancel))
    return functools.partial(calls.done, task)


# The first place: sessions, which every call goes through


class _Tracer:
    """Makes a span for each call, if OpenTelemetry is set up; wraps `_Guard`.

    Flyte gets the ``traceparent`` header, which holds only random numbers, so that its own spans
    can join the trace. Baggage is not sent on: clients write it.
    """

    _tracer = trace.get_tracer("passthrough")  # uses the provider that is set when a span starts
    _propagator = TraceContextTextMapPropagator()

    async def intercept_unary(
        self, call_next: Callable[[Any, Call], Awaitable[Any]], request: Any, ctx: Call
    ) -> Any:
        """Trace a call with a single answer."""
        with self._span(ctx):
            return await call_next(request, ctx)

    async def intercept_server_stream(
        self, call_next: Callable[[Any, Call], AsyncGenerator[Any]], request: Any, ctx: Call
    ) -> AsyncGenerator[Any]:
        """Trace a call that returns a stream."""
        with self._span(ctx):
            async with aclosing(call_next(request, ctx)) as stream:
                async for message in stream:
                    yield message

    @contextmanager
    def _span(self, ctx: Call) -> Iterator[None]:
        """Open a span for the block; it ends no later than the request."""
        method = f"{ctx.method().service_name}/{ctx.method().name}"
        attributes = {"rpc.system.name": "connectrpc", "rpc.method": method}
        span = self._tracer.start_span(method, kind=trace.SpanKind.CLIENT, attributes=attributes)
        self._propagator.inject(ctx.request_headers(), trace.set_span_in_context(span))
        calls = current_calls.get()
        try:
            if calls:
                calls.begin(span, span.end)
            yield
        except (Exception, asyncio.CancelledError) as error:
            if span.is_recording():
                span.set_attribute("error.type", type(error).__qualname__)
                if isinstance(error, ConnectError):
                    span.set_attribute("rpc.response.status_code", error.code.value)
                if isinstance(error, Exception):  # a cancellation (the client left) is no error
                    span.set_status(trace.StatusCode.ERROR)
            raise
        finally:
            if calls:
                calls.done(span)
            if span.is_recording():
                span.end()


class _Guard:
    """Makes each call as the caller, with a deadline, and ends it with the request.

    Replaces the SDK's own interceptors, which retry calls that were refused, and streams that have
    already delivered something.
    """

    def __init__(self, is_plaintext: bool) -> None:
        self._is_plaintext = is_plaintext

    async def intercept_unary(
        self, call_next: Callable[[Any, Call], Awaitable[Any]], request: Any, ctx: Call
    ) -> Any:
        """Make a call with a single answer; retry one that only reads if Flyte is unreachable."""
        secrets = self._authenticate(ctx)
        limits = current_limits()
        reads = re.match(r"Get|List|Select|User", ctx.method().name)
        is_done = belongs_to_the_request(asyncio.current_task())
        calls, began = current_calls.get(), time.perf_counter()
        if calls and ctx.method().name == "CreateRun":
            calls.take_time()
        try:
            async with asyncio.timeout(limits.timeout):
                for pause in (*(limits.pauses if reads else ()), None):
                    try:
                        return await call_next(request, ctx)
                    except ConnectError as error:
                        # Inside the timeout, which recognises its own cancellation.
                        failure = _meaning(error, secrets)
                    if pause is None or failure.code is not Code.UNAVAILABLE:
                        break
                    await asyncio.sleep(pause)
        except TimeoutError:
            raise DeadlineExceededError from None
        finally:
            is_done()
            if calls:
                calls.seconds += time.perf_counter() - began
        raise failure

    async def intercept_server_stream(
        self, call_next: Callable[[Any, Call], AsyncIterator[Any]], request: Any, ctx: Call
    ) -> AsyncGenerator[Any]:
        """Make a call that returns a stream, and end it when nothing more will come."""
        secrets = self._authenticate(ctx)
        stream = call_next(request, ctx)
        calls, timeout = current_calls.get(), current_limits().timeout
        received, silent = 0, 0.0
        loop, closing = asyncio.get_running_loop(), set[asyncio.Future[Any]]()

        def end() -> None:
            # This generator may stay at its ``yield`` as long as something refers to it. Cancelling
            # the pending message ends the stream; if it has already arrived, close the stream.
            if not coming.cancel() and not closing and isinstance(stream, AsyncGenerator):
                closing.add(_quietly(stream.aclose()))

        if calls:
            calls.begin(stream, lambda: loop.call_soon_threadsafe(end))
        coming = _quietly(anext(stream))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=timeout)
                if not done:
                    silent += timeout
                    if await _has_nothing_more(request, ctx.method().name, received, silent):
                        return
                    continue
                try:
                    message = coming.result()
                except StopAsyncIteration:
                    return
                if closing:
                    return
                received, silent = received + 1, 0.0
                coming = _quietly(anext(stream))
                yield message
        except ConnectError as error:
            failure = _meaning(error, secrets)
        finally:
            end()  # in a separate task: anyio keeps cancelling anything awaited here
            if calls:
                calls.done(stream)
            await asyncio.wait({coming, *closing})
        raise failure

    def _authenticate(self, ctx: Call) -> list[str]:
        """Add the caller's credentials, and return the secrets in them.

        Raises:
            ConnectError: There are none, so the call would be anonymous.
        """
        calls, headers = current_calls.get(), ctx.request_headers()
        headers["x-request-id"] = (calls and calls.request_id) or str(uuid.uuid4())
        if self._is_plaintext:
            return []
        credentials = dict(forwarded_credentials())
        if not credentials and not current_limits().anonymous:
            raise ConnectError(
                Code.UNAUTHENTICATED,
                "there are no caller's credentials here: call Flyte while serving a request, not in"
                " a thread of your own or at start-up",
            )
        headers.update(credentials)
        return [word for value in credentials.values() for word in re.split(r"[\s;=]+", value)]


def _quietly(work: Awaitable[Any]) -> asyncio.Future[Any]:
    task = asyncio.ensure_future(work)
    # Retrieve the exception: there may be nobody left to await it.
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    return task


async def _has_nothing_more(request: Any, method: str, received: int, silent: float) -> bool:
    """Tell whether a silent stream can be given up.

    Flyte keeps a log open after the run has ended. It sends the state of an action at once; after
    that, silence means that the task is working, or that Flyte hangs.

    Raises:
        DeadlineExceededError: Flyte has not sent anything.
    """
    timeout = current_limits().timeout
    if method == "TailLogs" and hasattr(request, "action_id"):
        return (await remote.ActionDetails.get_details.aio(request.action_id)).done()
    if method.startswith("Watch") and not received:
        raise DeadlineExceededError
    return method == "WatchActionDetails" and silent >= RENEWAL * timeout


def _meaning(error: ConnectError, secrets: Iterable[str]) -> ConnectError:
    """Return the error in a form that is safe to show: short, without credentials or details.

    Raises:
        asyncio.CancelledError: The Connect client turns it into CANCELED; the SDK would go on.
    """
    if isinstance(error.__cause__, asyncio.CancelledError):
        raise asyncio.CancelledError
    if isinstance(error, TooLargeError):
        return error
    if isinstance(error.__cause__, DecodeError):
        return TooLargeError("the stored value is too large, or nested too deep, to be read")
    if error.code is Code.INTERNAL and re.search("exceed|too large", error.message):
        return TooLargeError("Flyte returns inputs and outputs of at most 2 MiB")
    text = error.message[:LONGEST_ERROR]
    if quotes(text, secrets):
        text = "(removed: it contains a credential)"
    meaning = ConnectError(error.code, text)
    meaning.__cause__ = error.__cause__  # the SDK recognises a reset stream by it
    return meaning


def quotes(text: str, secrets: Iterable[str]) -> bool:
    """Tell whether a text contains a secret, or a good part of one."""
    pieces = {text[i : i + QUOTE] for i in range(max(1, len(text) - QUOTE + 1))}
    told = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
    long = "\n".join(secret for secret in told if len(secret) >= QUOTE)
    if any(len(piece) == QUOTE and piece in long for piece in pieces):
        return True
    return any(secret in text for secret in told if len(secret) < QUOTE)


class Transport:
    """Sends requests without following redirects, and stops reading messages that are too large.

    The Connect client checks the size of a message only after reading all of it.
    """

    def __init__(self, tls_ca_cert: bytes | None, *, streams: bool = True) -> None:
        """Prepare to send.

        Args:
            tls_ca_cert: The authority to trust; None for those that the system trusts.
            streams: Whether responses are streams: then each message is limited, not the whole.
        """
        self._streams = streams
        self._transport = pyqwest.HTTPTransport(
            follow_redirects=False,  # a redirect would send credentials to another host
            tls_ca_cert=tls_ca_cert,
            tls_include_system_certs=tls_ca_cert is None,
            connect_timeout=30.0,
            pool_idle_timeout=90.0,
            tcp_keepalive_interval=30.0,
            use_system_dns=True,
            enable_otel=False,  # each call already has a span
        )

    async def execute(self, request: pyqwest.Request) -> pyqwest.Response:
        """Send a request and return its response."""
        response = await self._transport.execute(request)
        if int(response.headers.get("content-length") or 0) > LARGEST_MESSAGE:
            await response.aclose()
            raise _too_large()
        kind = response.headers.get("content-type", "")
        is_stream = self._streams and kind.startswith("application/connect+")
        if not is_stream and "content-length" in response.headers:
            return response
        return pyqwest.Response(
            status=response.status,
            headers=response.headers,
            content=_messages(response) if is_stream else _message(response),
            trailers=response.trailers,
        )


async def _message(response: pyqwest.Response) -> AsyncGenerator[bytes]:
    """Yield the chunks of an answer without a Content-Length."""
    received = 0
    async with response:
        async for chunk in response.content:
            received += len(chunk)
            if received > LARGEST_MESSAGE:
                raise _too_large()
            yield bytes(chunk)


async def _messages(response: pyqwest.Response) -> AsyncGenerator[bytes]:
    """Yield the chunks of a stream. Each message starts with a flag and its length, 1 + 4 bytes."""
    prefix, missing = b"", 0
    async with response:
        async for chunk in response.content:
            data = bytes(chunk)
            at = 0
            while at < len(data):
                if missing:
                    passed = min(missing, len(data) - at)
                    at, missing = at + passed, missing - passed
                    continue
                taken = data[at : at + 5 - len(prefix)]
                prefix, at = prefix + taken, at + len(taken)
                if len(prefix) == 5:
                    missing, prefix = int.from_bytes(prefix[1:]), b""
                    if missing > LARGEST_MESSAGE:
                        raise _too_large()
            yield data


def _too_large() -> ConnectError:
    return TooLargeError(f"a message from Flyte is larger than {LARGEST_MESSAGE} bytes")


def _sessions() -> None:
    """Make every session, from ``flyte.init*`` or for a cluster, one of ours."""
    session_module = _module("flyte.remote._client.auth._session")
    controlplane = _module("flyte.remote._client.controlplane")
    original = _function(controlplane, "create_session_config", {"endpoint", "auth_endpoint"})
    session_class = _class(session_module, "SessionConfig", {"interceptors", "http_client"})

    class Session(session_class):  # type: ignore[misc, valid-type]
        def connect_kwargs(self) -> dict[str, Any]:
            # Uncompressed, a message has the size in its prefix, and small ones are sent sooner.
            plain = {"accept_compression": (), "send_compression": None}
            return {**super().connect_kwargs(), **plain}

    own: dict[str, Session] = {}
    clusters: dict[tuple[str, str], Session] = {}

    async def create_session_config(
        endpoint: str | None,
        api_key: str | None = None,
        /,
        *,
        auth_endpoint: str | None = None,
        **options: Any,
    ) -> Session:
        if api_key or options.get("auth_type") != "Passthrough":
            raise NotForManyCallersError(
                "with an identity of its own the app would act as itself for everybody; initialise"
                " Flyte with flyte.init_passthrough.aio()"
            )
        assert endpoint
        if auth_endpoint:
            known = _trusted(endpoint, auth_endpoint, own) or clusters.get(
                (endpoint, auth_endpoint)
            )
            if known:
                return known
        # No retries, and no HTTP client for signing in: loading its certificates takes 50 ms.
        unused = {"rpc_retries": None, "transport": httpx.AsyncBaseTransport()}
        made = await original(endpoint, **(options | unused))
        parts = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
        parts["interceptors"] = (_Tracer(), _Guard(made.insecure))
        parts["http_client"] = pyqwest.Client(transport=Transport(made.tls_ca_cert))
        session = Session(**parts)
        if auth_endpoint:
            clusters[endpoint, auth_endpoint] = session
        else:
            own[session.endpoint] = session
        return session

    controlplane.create_session_config = create_session_config
    _safe_sessions.append(Session)
    # Each caller must ask Flyte for itself which cluster it may use.
    cache = _class(_module("flyte._utils.async_cache"), "ThreadSafeCache", set())
    _function(cache, "get_or_compute", {"key", "factory"})

    async def get_or_compute(_: Any, __: Any, factory: Callable[[], Awaitable[Any]]) -> Any:
        return await factory()

    cache.get_or_compute = get_or_compute


_safe_sessions: list[type] = []


def _trusted(cluster: str, flyte_address: str, own: dict[str, Any]) -> Any:
    """Return Flyte's own session if the cluster is Flyte itself, or None for another good address.

    The open-source Flyte returns the host name it was called by, with http:// behind a TLS proxy.

    Raises:
        ConnectError: Credentials must not be sent there.
    """
    url = cluster if "//" in cluster and not cluster.startswith("dns:") else None
    url = url or f"https://{re.sub('^dns:/*', '', cluster)}"
    if _netloc(url) == _netloc(flyte_address):
        return own.get(flyte_address)
    is_named = url.startswith("https://") and url in current_limits().data_addresses
    if not is_named and not is_neighbour(url, flyte_address):
        raise ConnectError(
            Code.INTERNAL,
            f"Flyte stores this data at {cluster!r}, which is not an https:// address in its own"
            " domain. To send callers' credentials there, add its https:// address to"
            " FLYTE_DATA_ADDRESSES.",
        )
    return None


def _netloc(url: str) -> str | None:
    try:
        return urlsplit(url).netloc
    except ValueError:  # not a URL
        return None


def is_neighbour(address: str, flyte_address: str) -> bool:
    """Tell whether an address has TLS and is in the same domain as Flyte's, as its clusters are.

    ``https://cluster.acme.example`` is a neighbour of ``https://flyte.acme.example``. Nothing is a
    neighbour of ``flyte.co.uk``: anyone can register a name under ``co.uk`` (publicsuffix.org).
    """
    domain = (urlsplit(flyte_address).hostname or "").partition(".")[2]
    if not domain or domain.rpartition(".")[2].isdigit() or domain.endswith("."):
        return False
    if _public_suffixes().is_public(domain):
        return False
    return re.fullmatch(rf"https://[a-z0-9.-]+\.{re.escape(domain)}(:443)?/?", address) is not None


@functools.cache
def _public_suffixes() -> PublicSuffixList:
    """Return the list; reading it takes a tenth of a second."""
    return PublicSuffixList()


# The second place: the loop


def _loop() -> None:
    """Run awaited calls in the caller's own task and thread, so that they are cancelled with it."""
    background = _module("flyte.syncify").syncify._bg_loop
    kind = type(background)
    for name, parameters in (
        ("is_in_loop", set()),
        ("call_in_loop_sync", {"coro"}),
        ("iterate_in_loop_sync", {"async_gen"}),
    ):
        _function(kind, name, parameters)
    iterate = kind.iterate_in_loop_sync

    def is_in_loop(_: Any) -> bool:
        return _is_in_a_loop()

    def call_in_loop_sync(self: Any, coro: Coroutine[Any, Any, Any]) -> Any:
        _refuse_to_block(coro)
        calls, future = current_calls.get(), asyncio.run_coroutine_threadsafe(coro, self.loop)
        try:
            if calls:
                calls.begin(future, future.cancel)
            result = future.result()
        finally:
            if calls:
                calls.done(future)
        return self.iterate_in_loop_sync(result) if hasattr(result, "__aiter__") else result

    def iterate_in_loop_sync(self: Any, async_gen: AsyncIterator[Any]) -> Any:
        _refuse_to_block(async_gen)
        return iterate(self, async_gen)

    async def wait(self: Any, quiet: bool = False, wait_for: Any = "terminal") -> None:  # noqa: ARG001
        if not self.done():
            async for _ in self.watch(wait_for=wait_for):
                pass

    action: Any = remote.Action
    _function(action, "wait", {"quiet", "wait_for"})
    action.wait = wait  # the SDK's own prints, and swallows a cancellation
    kind.is_in_loop = is_in_loop
    kind.call_in_loop_sync = call_in_loop_sync
    kind.iterate_in_loop_sync = iterate_in_loop_sync


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _refuse_to_block(call: Any) -> None:
    """Refuse a blocking call in the event loop: it would block every caller for ever."""
    if not _is_in_a_loop():
        return
    name = getattr(call, "__qualname__", "a call")
    if isinstance(call, Coroutine):
        call.close()
        written = f"await ….{name.rpartition('.')[2]}.aio(…)"
    else:
        written = f"async for … in ….{name.rpartition('.')[2]}.aio(…)"
    raise NotForManyCallersError(
        f"{name} blocks, and in an `async def` it would block every caller: write `{written}`, or"
        " make the endpoint a plain `def`"
    )


# The third place: types, and storage


def _types() -> None:
    """Turn stored values into JSON and nothing else, and open nothing that they refer to."""
    types = _module("flyte.types")
    engine = _class(types, "TypeEngine", set())
    interface = _class(_module("flyte.models"), "NativeInterface", {"inputs", "outputs"})
    _function(engine, "guess_python_type", {"flyte_type"})
    _function(engine, "to_python_value", {"lv", "expected_python_type"})
    _function(engine, "literal_map_to_kwargs", {"lm", "python_types", "literal_types"})
    _function(interface, "convert_to_kwargs", {"args", "kwargs"})
    sdk_types.install(engine, interface)
    runner = _class(_module("flyte._run"), "_Runner", set())
    _function(types, "guess_interface", set())
    rerun_as_it_was = _function(runner, "rerun", {"run_name", "action_name"}).fn
    options = {*inspect.signature(rerun_as_it_was).parameters}

    async def rerun(self: Any, run_name: str, action_name: str = "a0", **given: Any) -> Any:
        try:
            return await rerun_as_it_was(self, run_name, action_name, **given)
        except ValueError:  # the SDK reports only unknown inputs: report everything that is wrong
            details = await remote.ActionDetails.get.aio(run_name=run_name, name=action_name)
            known = types.guess_interface(details.pb2.task.task_template.interface).inputs
            inputs = {name: value for name, value in given.items() if name not in options}
            kinds = {name: known[name] for name in known.keys() & inputs.keys()}
            interface(inputs=kinds, outputs={}).convert_to_kwargs(**inputs)
            raise

    runner.rerun = _module("flyte.syncify").syncify(rerun)

    def get_underlying_filesystem(*_: Any, **__: Any) -> Any:
        raise NotForManyCallersError(
            "the app would read and write storage with its own rights for every caller: upload"
            " files with flyte.remote.upload_file.aio(), pass them on by URI, as"
            " File.from_existing_remote(uri), and let tasks read them"
        )

    for storage in (_module("flyte.storage"), _module("flyte.storage._storage")):
        _function(storage, "get_underlying_filesystem", {"path"})
        storage.get_underlying_filesystem = get_underlying_filesystem


# The fourth place: lazy tasks


def _lazy_tasks() -> None:
    """Fetch a task once per request, as its caller, even if it is defined at module level."""
    lazy = _class(_module("flyte.remote._task"), "LazyEntity", set())
    _function(lazy, "__init__", {"name", "getter"})
    _function(lazy, "fetch", set())
    _function(lazy, "override", set())
    syncify = _module("flyte.syncify").syncify

    async def fetch(self: Any) -> Any:
        calls, config = current_calls.get(), _init_config()
        key = (self, config.project, config.domain)
        if calls and key in calls.tasks:
            return calls.tasks[key]
        task = await self._getter()
        if calls:
            calls.tasks[key] = task
        return task

    async def override(self: Any, **options: Any) -> Any:
        async def overridden() -> Any:
            return (await self.fetch.aio()).override(**options)

        return lazy(self.name, overridden)

    lazy.fetch, lazy.override = syncify(fetch), syncify(override)
    data = _module("flyte.remote._data")
    # It caches hashes by path, and the path of a temporary file may be reused.
    hash_file = _function(data, "hash_file", {"file_path"})
    data.hash_file = getattr(hash_file, "__wrapped__", hash_file)
    # It remembers images and their builds: the next caller would be answered without asking Flyte.
    images = _class(_module("flyte._internal.imagebuild.image_builder"), "ImageBuildEngine", set())
    for name, kind in (("image_exists", staticmethod), ("build", classmethod)):
        _function(images, name, set())
        kept = inspect.getattr_static(images, name).__func__
        setattr(images, name, kind(getattr(kept, "__wrapped__", kept)))


# All of them


_lock = threading.Lock()
_done: list[str] = []


def make_safe() -> None:
    """Make the SDK safe for many callers. Only the first call in a process has an effect.

    1. Sessions: each call acts as the request's caller and ends with the request. It has a
       deadline, follows no redirect, reaches no cluster outside Flyte's domain or without TLS, and
       leaks no credentials in errors.
    2. The loop: awaited calls run in the caller's own task. Blocking calls are refused in the event
       loop; in a thread they end with the request.
    3. Types: values are JSON, in and out. Nothing is loaded, built or opened.
    4. Lazy tasks, and the SDK's cache of images: fetched again for each caller.

    Raises:
        UnsupportedFlyteError: The installed flyte lacks one of these places.
    """
    with _lock:
        if _done:
            return
        os.environ.setdefault("DO_NOT_TRACK", "1")  # or the SDK sends error texts to its telemetry
        try:
            for place in (_sessions, _loop, _types, _lazy_tasks, _config_variable):
                place()
        except AttributeError as error:
            raise _unsupported(str(error)) from error
        _function(_module("flyte._initialize"), "get_init_config", set())
        _function(_module("flyte.remote._auth_metadata"), "get_auth_metadata", set())
        for name, instead in REFUSED.items():
            part, _, method = name.partition(".")
            owner = getattr(remote, part, None)
            if mode := re.search("mode='(.+)'", name):
                owner, method = _class(_module("flyte._run"), "_Runner", set()), f"_run_{mode[1]}"
            _function(owner, method, set())
            setattr(owner, method, _refusal(name, instead))
        for logger in ("flyte", "httpx"):
            logging.getLogger(logger).addFilter(_without_credentials)
        _done.append("")


def _refusal(name: str, instead: str) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise NotForManyCallersError(
            f"{name} is not available in an app that serves many callers: {instead}"
        )

    refuse.aio = refuse  # type: ignore[attr-defined]
    return refuse


def _without_credentials(record: logging.LogRecord) -> bool:
    """Remove signatures from URLs, and drop records that quote the caller's credentials."""
    text = record.getMessage()
    if quotes(
        text, (word for _, value in forwarded_credentials() for word in re.split(r"[\s;=]+", value))
    ):
        return False
    record.msg, record.args = re.sub(r"(https?://[^\s?\]]+)\?[^\s\]]+", r"\1?…", text), ()
    return True


def forwarded_credentials() -> tuple[tuple[str, str], ...]:
    """Return the headers with which Flyte is called as the caller."""
    found: tuple[tuple[str, str], ...] = _module("flyte.remote._auth_metadata").get_auth_metadata()
    return found


# Which Flyte, project and domain


def _init_config() -> Any:
    return _module("flyte._initialize").get_init_config()


def is_safe(config: Any) -> bool:
    """Tell whether Flyte was initialised after `make_safe`."""
    return isinstance(config.client.session_config, tuple(_safe_sessions))


def initialised() -> Any:
    """Return the configuration from the last ``flyte.init*`` in this process, for `act_in`.

    Raises:
        flyte.errors.InitializationError: Flyte has not been initialised.
    """
    return _init_config()


def act_in(config: Any, project: str | None = None, domain: str | None = None) -> None:
    """Use this configuration for calls to Flyte from here on, in the current context."""
    if project or domain:
        config = config.replace(project=project or config.project, domain=domain or config.domain)
    _config_variable().set(config)


def _config_variable() -> ContextVar[Any]:
    """Return the SDK's context variable for a configuration that varies by request."""
    variable = getattr(_module("flyte._initialize"), "_context_init_config", None)
    if not isinstance(variable, ContextVar):
        raise _unsupported("flyte._initialize._context_init_config")
    return variable


@functools.cache
def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _unsupported(name) from error


def _class(module: Any, name: str, attributes: set[str]) -> Any:
    found = getattr(module, name, None)
    known = set(getattr(found, "__dataclass_fields__", ()))
    if not inspect.isclass(found) or not attributes <= known:
        raise _unsupported(f"{module.__name__}.{name}")
    return found


def _function(owner: Any, name: str, parameters: set[str]) -> Any:
    found = getattr(owner, name, None)
    if not callable(found) or (
        parameters and not parameters <= set(inspect.signature(found).parameters)
    ):
        raise _unsupported(f"{owner.__name__}.{name}")
    return found


def _unsupported(place: str) -> UnsupportedFlyteError:
    return UnsupportedFlyteError(
        f"flyte {flyte.__version__} cannot be made safe for many callers: {place} has changed since"
        " flyte 2.12. Pin flyte>=2.12,<2.13 in pyproject.toml, and look for an update of the"
        " template."
    )
