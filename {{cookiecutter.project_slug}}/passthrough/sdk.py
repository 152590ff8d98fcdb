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
import inspect
import logging
import os
import re
import sys
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
from pkgutil import resolve_name
from typing import Any
from urllib.parse import urlsplit

import anyio
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
        self.tasks: dict[Any, tuple[Any, remote.TaskDetails]] = {}
        self.seconds = 0.0
        """Total time spent in calls with a single answer."""
        self.subject: str | None = None
        """Flyte's identifier of the caller, if the endpoint has looked it up."""
        self._loop = asyncio.get_running_loop()
        self._open: list[asyncio.Task[Any] | None] = []
        self._ended = False

    @contextmanager
    def include(self) -> Iterator[None]:
        """Cancel the current task if the request ends while it is in the block.

        Raises:
            asyncio.CancelledError: The request has ended.
        """
        self._open.append(task := asyncio.current_task())
        try:
            if self._ended:  # only now: it may end in another thread at any time
                raise asyncio.CancelledError("the request that made this call to Flyte has ended")
            yield
        finally:
            self._open.remove(task)

    def time_left(self) -> float:
        """Return the seconds left to answer the request."""
        when = self._deadline and self._deadline.when()
        return when - self._loop.time() if when else self.limits.timeout

    async def take_time(self) -> None:
        """Extend the deadline before a run is started: the caller must learn that it was.

        Raises:
            asyncio.CancelledError: The deadline has passed.
        """
        # In the request's own loop: a thread's calls run in another one.
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._extend(), self._loop))

    async def _extend(self) -> None:
        if (deadline := self._deadline) and (when := deadline.when()):
            if deadline.expired():
                raise asyncio.CancelledError("there is no time left to answer this request")
            deadline.reschedule(max(when, self._loop.time() + 2 * self.limits.timeout))

    def end(self) -> None:
        """Cancel open calls, and refuse new ones."""
        self._ended = True
        for task in filter(None, {*self._open}):
            with suppress(RuntimeError):  # its event loop is closed
                task.get_loop().call_soon_threadsafe(task.cancel)


current_calls: ContextVar[Calls | None] = ContextVar("current_calls", default=None)
"""The calls of the current request."""


def request_calls() -> Calls:
    """Return the calls of the current request, or an empty object if there is none."""
    return current_calls.get() or Calls(Limits())


# The first place: sessions, which every call goes through


class _Guard:
    """Makes each call as the caller, with a deadline, and ends it with the request.

    Replaces the SDK's own interceptors, which retry calls that were refused, and streams that have
    already delivered something.
    """

    _tracer = trace.get_tracer("passthrough")  # uses the provider that is set when a span starts
    _propagator = TraceContextTextMapPropagator()

    def __init__(self, is_plaintext: bool) -> None:
        self._is_plaintext = is_plaintext

    async def intercept_unary(
        self, call_next: Callable[[Any, Call], Awaitable[Any]], request: Any, ctx: Call
    ) -> Any:
        """Make a call with a single answer; retry one that only reads if Flyte is unreachable."""
        calls, name, began = request_calls(), ctx.method().name, time.perf_counter()
        pauses = calls.limits.pauses if re.match(r"Get|List|Select|User", name) else ()
        with self._call(ctx) as secrets:
            if name == "CreateRun":
                await calls.take_time()
            try:
                async with asyncio.timeout(calls.limits.timeout):
                    for pause in (*pauses, None):
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
                calls.seconds += time.perf_counter() - began
            raise failure

    async def intercept_server_stream(
        self, call_next: Callable[[Any, Call], AsyncGenerator[Any]], request: Any, ctx: Call
    ) -> AsyncGenerator[Any]:
        """Make a call that returns a stream, and end it when nothing more will come.

        It is read in a separate task, because this generator may stay at its ``yield`` as long as
        something refers to it, and because waiting for a message must not end the stream.
        """
        sender, messages = anyio.create_memory_object_stream[Any]()

        async def read() -> None:
            with self._call(ctx) as secrets:
                try:
                    async with aclosing(call_next(request, ctx)) as stream:
                        async for message in stream:
                            await sender.send(message)
                except ConnectError as error:
                    failure = _meaning(error, secrets)
                else:
                    return
                raise failure

        def done(task: asyncio.Task[None]) -> None:
            sender.close()
            messages.close()
            task.cancelled() or task.exception()  # there may be nobody left to await it

        timeout, received, silent = request_calls().limits.timeout, 0, 0.0
        reading = asyncio.create_task(read())
        reading.add_done_callback(done)
        try:
            while True:
                try:
                    with anyio.fail_after(timeout):  # asyncio's would lose what comes just then
                        message = await messages.receive()
                except TimeoutError:
                    silent += timeout
                    ends = await _has_nothing_more(request, ctx.method().name, received, silent)
                    if ends and not messages.statistics().tasks_waiting_send:
                        return
                    continue
                except (anyio.ClosedResourceError, anyio.EndOfStream):  # by anyio's version
                    break
                received, silent = received + 1, 0.0
                yield message
            await reading
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    @contextmanager
    def _call(self, ctx: Call) -> Iterator[list[str]]:
        """Make the block a call of the request, with a span; yield the secrets that are sent.

        Flyte gets the ``traceparent`` header, which holds only random numbers, so that its own
        spans can join the trace. Baggage is not sent on: clients write it.
        """
        calls, secrets = request_calls(), self._authenticate(ctx)
        method = f"{ctx.method().service_name}/{ctx.method().name}"
        attributes = {"rpc.system.name": "connectrpc", "rpc.method": method}
        with calls.include():
            span = self._tracer.start_span(
                method, kind=trace.SpanKind.CLIENT, attributes=attributes
            )
            self._propagator.inject(ctx.request_headers(), trace.set_span_in_context(span))
            try:
                yield secrets
            except Exception as error:
                span.set_attribute("error.type", type(error).__qualname__)
                if isinstance(error, ConnectError):
                    span.set_attribute("rpc.response.status_code", error.code.value)
                span.set_status(trace.StatusCode.ERROR)
                raise
            finally:
                span.end()

    def _authenticate(self, ctx: Call) -> list[str]:
        """Add the caller's credentials, and return the secrets in them.

        Raises:
            ConnectError: There are none, so the call would be anonymous.
        """
        calls, headers = request_calls(), ctx.request_headers()
        headers["x-request-id"] = calls.request_id or str(uuid.uuid4())
        if self._is_plaintext:
            return []
        credentials = forwarded_credentials()
        if not credentials and not calls.limits.anonymous:
            raise ConnectError(
                Code.UNAUTHENTICATED,
                "there are no caller's credentials here: call Flyte while serving a request, not in"
                " a thread of your own or at start-up",
            )
        headers.update(credentials)
        return _secrets(credentials)


async def _has_nothing_more(request: Any, method: str, received: int, silent: float) -> bool:
    """Tell whether a silent stream can be given up.

    Flyte keeps a log open after the run has ended. It sends the state of an action at once; after
    that, silence means that the task is working, or that Flyte hangs.

    Raises:
        DeadlineExceededError: Flyte has not sent anything.
    """
    if method == "TailLogs" and hasattr(request, "action_id"):
        return (await remote.ActionDetails.get_details.aio(request.action_id)).done()
    if method.startswith("Watch") and not received:
        raise DeadlineExceededError
    return method == "WatchActionDetails" and silent >= RENEWAL * request_calls().limits.timeout


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
    told = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
    joined = "\n".join(told)
    pieces = {text[i : i + QUOTE] for i in range(len(text) - QUOTE + 1)}
    return any(secret in text for secret in told) or any(piece in joined for piece in pieces)


class Transport:
    """Sends requests without following redirects, and stops reading messages that are too large.

    The Connect client checks the size of a message only after reading all of it.
    """

    def __init__(self, tls_ca_cert: bytes | None) -> None:
        """Trust this authority; with None, those that the system trusts."""
        self._transport = pyqwest.HTTPTransport(
            follow_redirects=False,  # a redirect would send credentials to another host
            tls_ca_cert=tls_ca_cert,
            tls_include_system_certs=tls_ca_cert is None,
            use_system_dns=True,
            enable_otel=False,  # each call already has a span
        )

    async def execute(self, request: pyqwest.Request) -> pyqwest.Response:
        """Send a request and return its response."""
        response = await self._transport.execute(request)
        length = int(response.headers.get("content-length") or LARGEST_MESSAGE + 1)
        if "transfer-encoding" in response.headers:
            length = LARGEST_MESSAGE + 1  # unknown: a Content-Length besides it is void
        is_stream = all(
            headers.get("content-type", "").startswith("application/connect+")
            for headers in (request.headers, response.headers)
        )
        if not is_stream and length <= LARGEST_MESSAGE:
            return response
        return pyqwest.Response(
            status=response.status,
            headers=response.headers,
            content=_limited(response, is_stream),
            trailers=response.trailers,
        )


async def _limited(response: pyqwest.Response, is_stream: bool) -> AsyncGenerator[bytes]:
    """Yield the chunks of a response, until a message is too large.

    In a stream, each message starts with a flag and its length, 1 + 4 bytes.
    """
    prefix, left = b"", 0 if is_stream else LARGEST_MESSAGE
    async with response:
        async for chunk in response.content:
            rest = memoryview(chunk)
            while rest:
                part = rest[: left or 5 - len(prefix)]
                rest = rest[len(part) :]
                if left:
                    left -= len(part)
                    continue
                prefix += part
                if is_stream and len(prefix) == 5:
                    prefix, left = b"", int.from_bytes(prefix[1:])
                if left > LARGEST_MESSAGE or not is_stream:
                    raise TooLargeError(
                        f"a message from Flyte is larger than {LARGEST_MESSAGE} bytes"
                    )
            yield bytes(chunk)


def _sessions() -> None:
    """Make every session, from ``flyte.init*`` or for a cluster, one of ours."""
    controlplane = _part("flyte.remote._client.controlplane")
    create, kind = controlplane.create_session_config, controlplane.SessionConfig
    connect_kwargs = kind.connect_kwargs
    sessions: dict[tuple[str, str], Any] = {}  # by their address and Flyte's

    def uncompressed(self: Any) -> dict[str, Any]:
        # A message then has its size in front, and small ones are sent sooner.
        return {**connect_kwargs(self), "accept_compression": (), "send_compression": None}

    async def create_session_config(
        endpoint: str,
        api_key: str | None = None,
        /,
        *,
        auth_endpoint: str | None = None,
        **options: Any,
    ) -> Any:
        if api_key or options.get("auth_type") != "Passthrough":
            raise NotForManyCallersError(
                "with an identity of its own the app would act as itself for everybody; initialise"
                " Flyte with flyte.init_passthrough.aio()"
            )
        if auth_endpoint:  # for a cluster
            endpoint = _trusted(endpoint, auth_endpoint)
            if known := sessions.get((endpoint, auth_endpoint)):
                return known
        # No retries, and no HTTP client for signing in: loading its certificates takes 50 ms.
        unused = {"rpc_retries": None, "transport": httpx.AsyncBaseTransport()}
        made = await create(endpoint, **(options | unused))
        session = dataclasses.replace(
            made,
            interceptors=(_Guard(made.insecure),),
            http_client=pyqwest.Client(transport=Transport(made.tls_ca_cert)),
        )
        sessions[made.endpoint, auth_endpoint or made.endpoint] = session
        return session

    kind.connect_kwargs = uncompressed
    controlplane.create_session_config = create_session_config

    # Each caller must ask Flyte for itself which cluster it may use.
    async def get_or_compute(_: Any, __: Any, factory: Callable[[], Awaitable[Any]]) -> Any:
        return await factory()

    _part("flyte._utils.async_cache:ThreadSafeCache").get_or_compute = get_or_compute


def _trusted(cluster: str, flyte_address: str) -> str:
    """Return the address at which to call a cluster, or Flyte's own if the cluster is Flyte itself.

    The open-source Flyte returns the host name it was called by, with http:// behind a TLS proxy.

    Raises:
        ConnectError: Credentials must not be sent there.
    """
    address = re.sub("^dns:/*", "", cluster)
    if "//" not in address:
        address = f"https://{address}"
    with suppress(ValueError):  # not a URL
        if urlsplit(address).netloc == urlsplit(flyte_address).netloc:
            return flyte_address
    if not is_trusted(address, flyte_address):
        raise ConnectError(
            Code.INTERNAL,
            f"Flyte stores this data at {cluster!r}, which is not an https:// address in its own"
            " domain. To send callers' credentials there, add its https:// address to"
            " FLYTE_DATA_ADDRESSES.",
        )
    return address


def is_trusted(address: str, flyte_address: str) -> bool:
    """Tell whether credentials may be sent to an address that Flyte has returned."""
    is_listed = address.startswith("https://") and address in request_calls().limits.data_addresses
    return is_listed or is_neighbour(address, flyte_address)


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
    kind = type(_part("flyte.syncify:syncify._bg_loop"))
    call, iterate = kind.call_in_loop_sync, kind.iterate_in_loop_sync

    async def with_the_request(coro: Coroutine[Any, Any, Any]) -> Any:
        try:
            with request_calls().include():
                return await coro
        finally:
            coro.close()  # if it has not started, because the request has ended

    def call_in_loop_sync(self: Any, coro: Coroutine[Any, Any, Any]) -> Any:
        _refuse_to_block(coro)
        return call(self, with_the_request(coro))

    def iterate_in_loop_sync(self: Any, async_gen: AsyncIterator[Any]) -> Any:
        _refuse_to_block(async_gen)
        return iterate(self, async_gen)

    async def wait(self: Any, quiet: bool = False, wait_for: Any = "terminal") -> None:  # noqa: ARG001
        if not self.done():
            async for _ in self.watch(wait_for=wait_for):
                pass

    kind.is_in_loop = lambda _: True  # each loop counts as the SDK's own
    kind.call_in_loop_sync = call_in_loop_sync
    kind.iterate_in_loop_sync = iterate_in_loop_sync
    action: Any = remote.Action
    action.wait = wait  # the SDK's own prints, and swallows a cancellation


def _refuse_to_block(call: Any) -> None:
    """Refuse a blocking call in the event loop: it would block every caller for ever."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    name, begin = call.__qualname__, "async for … in"
    if isinstance(call, Coroutine):
        call.close()
        begin = "await"
    raise NotForManyCallersError(
        f"{name} blocks, and in an `async def` it would block every caller: write `{begin}"
        f" ….{name.rpartition('.')[2]}.aio(…)`, or make the endpoint a plain `def`"
    )


# The third place: types, and storage


def _types() -> None:
    """Turn stored values into JSON and nothing else, and open nothing that they refer to."""
    interface, runner = _part("flyte.models:NativeInterface"), _part("flyte._run:_Runner")
    sdk_types.install(_part("flyte.types:TypeEngine"), interface)
    # Larger pickles would be written to the disk, and to storage, which is refused below.
    _part("flyte.types._pickle").DEFAULT_PICKLE_BYTES_LIMIT = sys.maxsize
    rerun_as_it_was = runner.rerun.fn
    options = {*inspect.signature(rerun_as_it_was).parameters}

    async def rerun(self: Any, run_name: str, action_name: str = "a0", **given: Any) -> Any:
        try:
            return await rerun_as_it_was(self, run_name, action_name, **given)
        except ValueError:  # the SDK reports only unknown inputs: report everything that is wrong
            details = await remote.ActionDetails.get.aio(run_name=run_name, name=action_name)
            template = details.pb2.task.task_template
            known = _part("flyte.types:guess_interface")(template.interface).inputs
            inputs = {name: value for name, value in given.items() if name not in options}
            kinds = {name: known[name] for name in known.keys() & inputs.keys()}
            interface(inputs=kinds, outputs={}).convert_to_kwargs(**inputs)
            raise

    runner.rerun = _part("flyte.syncify:syncify")(rerun)

    def get_underlying_filesystem(*_: Any, **__: Any) -> Any:
        raise NotForManyCallersError(
            "the app would read and write storage with its own rights for every caller: upload"
            " files with flyte.remote.upload_file.aio(), pass them on by URI, as"
            " File.from_existing_remote(uri), and let tasks read them"
        )

    for storage in ("flyte.storage", "flyte.storage._storage"):
        _part(storage).get_underlying_filesystem = get_underlying_filesystem


# The fourth place: lazy tasks


def _lazy_tasks() -> None:
    """Fetch a task once per request, as its caller, even if it is defined at module level."""
    lazy, syncify = _part("flyte.remote._task:LazyEntity"), _part("flyte.syncify:syncify")

    async def fetch(self: Any) -> Any:
        tasks, config, caller = request_calls().tasks, initialised(), forwarded_credentials()
        key = (self, config.project, config.domain)
        fetched_as, task = tasks.get(key, (None, None))
        if fetched_as != caller:
            task = await self._getter()
            tasks[key] = caller, task
        return task

    async def override(self: Any, **options: Any) -> Any:
        async def overridden() -> Any:
            return (await self.fetch.aio()).override(**options)

        return lazy(self.name, overridden)

    lazy.fetch, lazy.override = syncify(fetch), syncify(override)
    # It caches hashes by path, and the path of a temporary file may be reused.
    data = _part("flyte.remote._data")
    data.hash_file = _uncached(data.hash_file)
    # It remembers images and their builds: the next caller would be answered without asking Flyte.
    images = _part("flyte._internal.imagebuild.image_builder:ImageBuildEngine")
    for name, kind in (("image_exists", staticmethod), ("build", classmethod)):
        setattr(images, name, kind(_uncached(inspect.getattr_static(images, name).__func__)))


def _uncached(function: Any) -> Any:
    return getattr(function, "__wrapped__", function)


# All of them


PLACES = {
    "flyte._initialize:_context_init_config.set": "",
    "flyte._initialize:get_init_config": "",
    "flyte._internal.imagebuild.image_builder:ImageBuildEngine.build": "",
    "flyte._internal.imagebuild.image_builder:ImageBuildEngine.image_exists": "",
    "flyte._run:_Runner._run_hybrid": "",
    "flyte._run:_Runner._run_local": "",
    "flyte._run:_Runner.rerun.fn": "run_name action_name",
    "flyte._utils.async_cache:ThreadSafeCache.get_or_compute": "key factory",
    "flyte.models:NativeInterface": "inputs outputs",
    "flyte.models:NativeInterface.convert_to_kwargs": "args kwargs",
    "flyte.models:NativeInterface.json_schema": "",
    "flyte.remote:Action.wait": "quiet wait_for",
    "flyte.remote._auth_metadata:get_auth_metadata": "",
    "flyte.remote._client.controlplane:SessionConfig": "interceptors http_client",
    "flyte.remote._client.controlplane:SessionConfig.connect_kwargs": "",
    "flyte.remote._client.controlplane:create_session_config": "endpoint auth_endpoint",
    "flyte.remote._data:hash_file": "file_path",
    "flyte.remote._task:LazyEntity": "name getter",
    "flyte.remote._task:LazyEntity.fetch": "",
    "flyte.remote._task:LazyEntity.override": "",
    "flyte.storage:get_underlying_filesystem": "path",
    "flyte.storage._storage:get_underlying_filesystem": "path",
    "flyte.syncify:syncify._bg_loop.call_in_loop_sync": "coro",
    "flyte.syncify:syncify._bg_loop.is_in_loop": "",
    "flyte.syncify:syncify._bg_loop.iterate_in_loop_sync": "async_gen",
    "flyte.types:TypeEngine.guess_python_type": "flyte_type",
    "flyte.types:TypeEngine.literal_map_to_kwargs": "lm python_types literal_types",
    "flyte.types:TypeEngine.to_literal": "python_val python_type expected",
    "flyte.types:TypeEngine.to_literal_type": "python_type",
    "flyte.types:TypeEngine.to_python_value": "lv expected_python_type",
    "flyte.types:guess_interface": "",
    "flyte.types._pickle:DEFAULT_PICKLE_BYTES_LIMIT": "",
}
"""The parts of the SDK that are changed or used here, with the parameters they must have."""

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
        for place, parameters in (PLACES | {_place(name): "" for name in REFUSED}).items():
            if not _is_there(place, parameters):
                raise UnsupportedFlyteError(
                    f"flyte {flyte.__version__} cannot be made safe for many callers: {place} has"
                    " changed since flyte 2.12. Pin flyte>=2.12,<2.13 in pyproject.toml, and look"
                    " for an update of the template."
                )
        for change in (_sessions, _loop, _types, _lazy_tasks):
            change()
        for name, instead in REFUSED.items():
            owner, _, method = _place(name).rpartition(".")
            setattr(_part(owner), method, _refusal(name, instead))
        for logger in ("flyte", "httpx"):
            logging.getLogger(logger).addFilter(_without_credentials)
        _done.append("")


def _is_there(place: str, parameters: str) -> bool:
    try:
        found = resolve_name(place)
    except (ImportError, AttributeError):
        return False
    return not parameters or {*parameters.split()} <= {*inspect.signature(found).parameters}


def _place(refused: str) -> str:
    """Return the part of the SDK that a name in `REFUSED` refers to."""
    mode = re.search("mode='(.+)'", refused)
    return f"flyte._run:_Runner._run_{mode[1]}" if mode else f"flyte.remote:{refused}"


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
    if quotes(text, _secrets(forwarded_credentials())):
        return False
    record.msg, record.args = re.sub(r"(https?://[^\s?\]]+)\?[^\s\]]+", r"\1?…", text), ()
    return True


def forwarded_credentials() -> tuple[tuple[str, str], ...]:
    """Return the headers with which Flyte is called as the caller."""
    found: tuple[tuple[str, str], ...] = _part("flyte.remote._auth_metadata:get_auth_metadata")()
    return found


def _secrets(credentials: Iterable[tuple[str, str]]) -> list[str]:
    """Return the credentials without schemes and names of cookies."""
    return [word for _, value in credentials for word in re.split(r"[\s;=]+", value)]


# Which Flyte, project and domain


def initialised() -> Any:
    """Return the configuration from the last ``flyte.init*`` in this process, for `act_in`.

    Raises:
        flyte.errors.InitializationError: Flyte has not been initialised.
        RuntimeError: Flyte was initialised before `make_safe`.
    """
    config = _part("flyte._initialize:get_init_config")()
    is_safe = isinstance(config.client.session_config.interceptors[-1], _Guard)
    if not is_safe:
        raise RuntimeError("initialise Flyte in the app's lifespan, not before the app starts")
    return config


def act_in(config: Any, project: str | None = None, domain: str | None = None) -> None:
    """Use this configuration for calls to Flyte from here on, in the current context."""
    if project or domain:
        config = config.replace(project=project or config.project, domain=domain or config.domain)
    _part("flyte._initialize:_context_init_config").set(config)


_part = functools.cache(resolve_name)
"""Return a part of the SDK by its name, as in `PLACES`."""
