"""A router with mistakes that keep data of one caller for the next, and with innocent caches.

``test_shared_state.py`` adds it to a project. Each mistake is an endpoint of its own.
"""

import asyncio
import functools
import logging
import random
import threading
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, ClassVar

import flyte
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Cookie,
    Depends,
    FastAPI,
    Form,
    Header,
    HTTPException,
    Request,
    UploadFile,
)
from fastapi.sse import EventSourceResponse, ServerSentEvent
from flyte import remote
from pydantic import BaseModel, Field
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from passthrough import Caller, CallerDep, callers_credentials, find_caller

router = APIRouter()
CHART = remote.Task.get("my-flyte-app-tasks.chart", auto_version="latest")


async def fetch_runs() -> list[str]:
    """Fetch the names of the caller's runs."""
    subject = (await remote.User.get.aio()).subject()
    runs = remote.Run.listall.aio(created_by_subject=subject, limit=10)
    return [run.name async for run in runs]


# Mistakes in endpoints

RECENT: dict[str, list[str]] = {}


@router.get("/mistakes/module-dict")
async def module_dict() -> list[str]:
    if "runs" not in RECENT:
        RECENT["runs"] = await fetch_runs()
    return RECENT["runs"]


OWNER: dict[str, str] = {}


@router.get("/mistakes/setdefault")
async def set_default(caller: CallerDep) -> str:
    return OWNER.setdefault("subject", str(caller.subject))


DETAILS: dict[str, str] = {}


@router.get("/mistakes/runs/{name}/cached-by-run")
async def cached_by_run(name: str, _: CallerDep) -> str:
    if name not in DETAILS:
        DETAILS[name] = str((await remote.Run.get.aio(name)).phase)
    return DETAILS[name]


@router.get("/mistakes/app-state")
async def app_state(request: Request, caller: CallerDep) -> Any:
    state = request.app.state
    state.seen = [*getattr(state, "seen", []), caller.subject]
    return state.seen


class Stats:
    subjects: ClassVar[list[str]] = []


@router.get("/mistakes/class-attribute")
async def class_attribute(caller: CallerDep) -> list[str]:
    Stats.subjects.append(str(caller.subject))
    return Stats.subjects


current = ""


@router.get("/mistakes/overwritten-global")
async def overwritten_global(caller: CallerDep) -> str:
    global current
    current = str(caller.subject)
    await fetch_runs()
    return f"This is for {current}"


class TTLCache(dict[str, int]):
    until = 0.0


TTL = TTLCache()


@router.get("/mistakes/ttl-cache")
async def ttl_cache(_: CallerDep) -> int:
    if TTL.until < time.monotonic():
        TTL["count"] = len(await fetch_runs())
        TTL.until = time.monotonic() + 300
    return TTL["count"]


@functools.lru_cache
def count_runs(limit: int) -> int:
    return len(list(remote.Run.listall(limit=limit)))


@router.get("/mistakes/lru-cache")
def lru_cached(_: CallerDep) -> int:
    return count_runs(10)


@router.get("/mistakes/default-argument")
async def default_argument(caller: CallerDep) -> list[str]:
    return remember(str(caller.subject))


def remember(subject: str, seen: list[str] = []) -> list[str]:
    seen.append(subject)
    return seen


LAST_ANSWER = ""


@router.post("/mistakes/post")
async def post(caller: CallerDep) -> str:
    global LAST_ANSWER
    before, LAST_ANSWER = LAST_ANSWER, str(caller.subject)
    return f"Before you: {before}"


@router.get("/mistakes/runs/{name}/stream", response_class=EventSourceResponse)
async def stream(name: str, caller: CallerDep) -> AsyncGenerator[ServerSentEvent]:
    global current
    current = str(caller.subject)
    await remote.RunDetails.get.aio(name)
    yield ServerSentEvent(data=current)


class Board:
    note = ""
    title = ""


board = Board()


@router.post("/between/board")
async def write_note(caller: CallerDep) -> None:
    board.note = str(caller.subject)


@router.get("/between/board")
async def read_note(_: CallerDep) -> str:
    return board.note


logger = logging.getLogger(__name__)
previous = "nobody"


@router.get("/mistakes/log")
async def log(caller: CallerDep) -> None:
    global previous
    logger.info("the previous caller was %s", previous)
    previous = str(caller.subject)


@router.get("/mistakes/print")
async def printed(caller: CallerDep) -> None:
    print(*RECENT.setdefault("printed", []))
    RECENT["printed"].append(str(caller.subject))


# Mistakes behind requests that need an example: `EXAMPLES` below


class Order(BaseModel):
    item: str = Field(examples=["tea"])
    amount: int


def leak(place: str, caller: Caller) -> str | None:
    """Return the subject of the previous caller, which belongs to somebody else."""
    before, CALLERS[place] = CALLERS.get(place), str(caller.subject)
    return before


CALLERS: dict[str, str] = {}


@router.post("/mistakes/form")
async def form(name: Annotated[str, Form()], caller: CallerDep) -> Any:
    return leak("form", caller)


@router.post("/mistakes/upload")
async def upload(
    title: Annotated[str, Form()], document: UploadFile, caller: CallerDep
) -> list[str | None]:
    return [document.filename, leak("upload", caller)]


@router.get("/mistakes/header")
async def header(x_ticket: Annotated[str, Header()], caller: CallerDep) -> Any:
    return leak("header", caller)


@router.get("/mistakes/cookie")
async def cookie(theme: Annotated[str, Cookie()], caller: CallerDep) -> Any:
    return leak("cookie", caller)


@router.post("/mistakes/body")
async def body(order: Order, caller: CallerDep) -> Any:
    return leak("body", caller)


@router.put("/mistakes/number/{number}")
async def number(number: int, caller: CallerDep) -> Any:
    return leak("number", caller)


@router.post("/mistakes/sums/{to}")
async def started_run(to: int, caller: CallerDep) -> Any:
    run = await flyte.run.aio(CHART, values=[to])
    await run.wait.aio()
    return [await run.outputs.aio(), leak("sums", caller)]


@router.post("/mistakes/runs/{name}/stop")
async def stop(name: str, caller: CallerDep) -> Any:
    run = await remote.Run.get.aio(name)
    if run.done():
        raise HTTPException(409, "the run has ended")
    await run.abort.aio()
    return leak("stop", caller)


@router.get("/mistakes/runs/{name}/actions/{action}/note")
async def note_of_action(name: str, action: str, caller: CallerDep) -> Any:
    await remote.ActionDetails.get.aio(run_name=name, name=action)
    return leak("note", caller)


@router.get("/mistakes/hidden", include_in_schema=False)
async def hidden(caller: CallerDep) -> Any:
    return leak("hidden", caller)


mounted = FastAPI(openapi_url=None)


@mounted.get("/page")
async def mounted_page(caller: CallerDep) -> Any:
    return leak("mounted", caller)


router.mount("/mistakes/mounted", mounted)


@router.post("/unexecuted/orders")
async def no_example(order: Order, caller: CallerDep) -> Any:
    return leak("orders", caller)


EXAMPLES = """
    ("POST", "/mistakes/form"): {"data": {"name": "Ada"}},
    ("POST", "/mistakes/upload"): {"data": {"title": "t"}, "files": {"document": ("a", b"b")}},
    ("GET", "/mistakes/header"): {"headers": {"X-Ticket": "7"}},
    ("GET", "/mistakes/cookie"): {"cookies": {"theme": "dark"}},
    ("POST", "/mistakes/body"): {"json": {"item": "tea", "amount": 1}},
    ("PUT", "/mistakes/number/{number}"): {"path": {"number": 1}},
    ("POST", "/mistakes/sums/{to}"): {"path": {"to": 1}},
    ("POST", "/mistakes/runs/{name}/stop"): {"run": "running"},
    ("GET", "/innocent/visitors"): {"shared": "the list is public"},
    ("GET", "/innocent/untested"): {"untested": "needs a printer"},
"""


# Caches with a key that several users share, and shared calls

BY_KEY: dict[str, list[str]] = {}  # shared: for test_shared_state.py, so that calls find it


@router.get("/mistakes/by-authorization")
async def by_authorization(request: Request, _: CallerDep) -> int:
    key = f"token {request.headers.get('authorization')}"
    if key not in BY_KEY:
        BY_KEY[key] = await fetch_runs()
    return len(BY_KEY[key])


@router.get("/mistakes/by-display-name")
async def by_display_name(caller: CallerDep) -> int:
    key = f"name {caller.name}"
    if key not in BY_KEY:
        BY_KEY[key] = await fetch_runs()
    return len(BY_KEY[key])


flight: asyncio.Task[list[str]] | None = None


@router.get("/mistakes/single-flight")
async def single_flight(_: CallerDep) -> int:
    global flight
    if flight is None or flight.done():
        flight = asyncio.create_task(fetch_runs())
    return len(await asyncio.shield(flight))


@router.get("/between/z-welcome")
async def welcome(caller: CallerDep) -> str:
    board.title = f"Welcome, {caller.subject}"
    return board.title


@router.get("/between/z-title")
async def title(_: CallerDep) -> str:
    return board.title


@router.get("/mistakes/runs/{name}/locked")
async def locked(name: str, caller: CallerDep) -> None:
    owner = BY_KEY.setdefault("locked", [str(caller.subject)])[0]
    if owner != caller.subject:
        raise HTTPException(409, f"{owner} has locked {name}")


# Mistakes that the tests do not find: SECURITY.md lists them


@router.get("/missed/second-page")
async def second_page(caller: CallerDep, offset: int = 0) -> list[str | None]:
    return [leak("second page", caller)] if offset else []


@router.get("/missed/runs/{name}/stream", response_class=EventSourceResponse)
async def later_events(name: str, caller: CallerDep) -> AsyncGenerator[ServerSentEvent]:
    yield ServerSentEvent(data=name)
    yield ServerSentEvent(data=leak("later", caller))


@router.get("/missed/number")
async def kept_number(caller: CallerDep) -> int:
    runs = len(await fetch_runs())
    before, NUMBERS["last"] = NUMBERS.get("last", runs), runs
    return before


NUMBERS: dict[str, int] = {}  # shared: for test_shared_state.py


# In dependencies

memo: dict[str, Caller] = {}


async def memoised(request: Request) -> Caller:
    if "caller" not in memo:
        memo["caller"] = await find_caller(request)
    await find_caller(request)
    return memo["caller"]


@router.get("/mistakes/dependency")
async def dependency(caller: Annotated[Caller, Depends(memoised)]) -> str:
    return str(caller.subject)


credentials: list[tuple[str, str]] = []


async def memoised_credentials() -> None:
    credentials[:] = credentials or callers_credentials()


@router.get("/mistakes/credentials", dependencies=[Depends(memoised_credentials)])
async def act_as_the_first() -> int:
    with remote.auth_metadata(*credentials):
        return len(await fetch_runs())


# In middleware


class LastCaller:
    def __init__(self, app: ASGIApp) -> None:
        self.app, self.last = app, b"nobody"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") != "/mistakes/middleware":
            return await self.app(scope, receive, send)
        before, self.last = self.last, dict(scope["headers"]).get(b"authorization", b"")

        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-last-caller", before))
            await send(message)

        await self.app(scope, receive, send_with_header)


@router.get("/mistakes/middleware")
async def middleware(_: CallerDep) -> None:
    """See `LastCaller`."""


class ToolCache:
    """Keeps the results of tools by the message."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.results = app, dict[bytes, list[Message]]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") != "/mcp":
            return await self.app(scope, receive, send)
        request = await receive()
        if b'"tool_cached"' not in (body := request["body"]):
            return await self.app(scope, replay(request, receive), send)
        sent: list[Message] = []

        async def record(message: Message) -> None:
            sent.append(message)
            await send(message)

        if body not in self.results:
            await self.app(scope, replay(request, receive), record)
            self.results[body] = sent
        else:
            for message in self.results[body]:
                await send(message)


def replay(request: Message, receive: Receive) -> Receive:
    messages = [request]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


MIDDLEWARE = [Middleware(LastCaller), Middleware(ToolCache)]


@router.get("/mistakes/tool", operation_id="tool_cached")
async def tool(caller: CallerDep) -> str:
    return str(caller.subject)


# In tasks that outlive the request

running = set[asyncio.Task[None]]()
latest: dict[str, Any] = {}


async def keep_later(caller: Caller) -> None:
    await asyncio.sleep(0.1)
    latest["caller"] = caller


@router.get("/mistakes/created-task")
async def created_task(caller: CallerDep) -> Any:
    running.add(task := asyncio.create_task(keep_later(caller)))
    task.add_done_callback(running.discard)
    return latest.get("caller")


# Work after the response, and changes in a GET


@router.post("/late/task")
async def late_task(_: CallerDep) -> None:
    async def call_later() -> None:
        await asyncio.sleep(0.05)
        await remote.Run.listall.aio(limit=1).__anext__()

    running.add(task := asyncio.create_task(call_later()))
    task.add_done_callback(running.discard)


@router.post("/late/started-call")
async def late_call(_: CallerDep) -> None:
    asyncio.create_task(fetch_runs())
    await asyncio.sleep(0)


@router.post("/late/thread")
async def late_thread(_: CallerDep) -> None:
    threading.Thread(target=lambda: remote.Run.get("x")).start()


@router.post("/late/unawaited")
async def unawaited(_: CallerDep) -> None:
    remote.User.get.aio()


@router.get("/changing/get")
async def start_in_get(_: CallerDep) -> str:
    return str((await flyte.run.aio(CHART)).name)


# Innocent


@router.post("/innocent/background")
async def background_task(background: BackgroundTasks) -> None:
    await fetch_runs()  # checks the rights
    background.add_task(flyte.run.aio, CHART)
    background.add_task(fetch_runs)


@router.get("/innocent/threads")
def in_a_thread() -> str | None:
    return str(remote.User.get().subject())


@router.get("/innocent/to-thread")
async def to_thread(_: CallerDep) -> str | None:
    return str((await asyncio.to_thread(remote.User.get)).subject())


@router.get("/innocent/partly-read")
async def partly_read() -> str:
    async for run in remote.Run.listall.aio(limit=100):
        return str(run.name)
    return ""


RATES: dict[str, float] = {}  # shared: exchange rates are the same for everybody


@router.get("/innocent/rates")
async def rates(_: CallerDep) -> dict[str, float]:
    if not RATES:
        RATES["EUR"] = random.random()
    return RATES


CONFIGURATION = {"team": "ours", "limits": [1, 2, 3]}


@router.get("/innocent/configuration")
async def configuration(_: CallerDep) -> dict[str, Any]:
    return CONFIGURATION | {"time": time.time()}


BY_SUBJECT: dict[str, list[str]] = {}  # shared: the key is the subject of the caller


@router.get("/innocent/by-subject")
async def by_subject(caller: CallerDep) -> list[str]:
    subject = str(caller.subject)
    if subject not in BY_SUBJECT:
        BY_SUBJECT[subject] = await fetch_runs()
    return BY_SUBJECT[subject]


@router.get("/innocent/runs")
async def everybodys_runs() -> list[str]:
    runs = remote.Run.listall.aio(sort_by=("created_at", "desc"), limit=50)
    owners = [(run.name, run.action.pb2.metadata.executed_by.user.id) async for run in runs]
    return [f"{name} {owner.subject}" for name, owner in owners]


VISITORS: list[str] = []  # shared: EXAMPLES has the reason


@router.get("/innocent/visitors")
async def visitors(caller: CallerDep) -> list[str]:
    VISITORS.append(str(caller.subject))
    return VISITORS


@router.get("/innocent/untested")
async def untested(_: CallerDep) -> None:
    raise HTTPException(503, "there is no printer")


@router.get("/innocent/polling")
async def polling() -> int:
    polls = random.randint(1, 4)
    for _ in range(polls):
        await remote.User.get.aio()
    return polls
