"""Sign-in pages that ``python -m local_flyte`` adds to the app, for requests from this machine.

On a cluster, Flyte's sign-in page sets the session cookie. On these pages, a link for each user
sets the cookie. The links contain a secret that is new at each start. Browsers send cookies to all
ports of a host, so each app has a separate cookie, which the middleware renames to the name that
Flyte uses.
"""

import importlib
import json
import os
import secrets
import sys
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .clients import short_traceback
from .people import COOKIE, Person
from .serving import HOSTS

VARIABLE = "LOCAL_FLYTE_SIGN_IN"
URL = "/sign-in"
# The style is in the page, because a project may have no web UI with a style sheet.
STYLE = """
:root { color-scheme: light dark; font: 16px / 1.6 system-ui, sans-serif }
:root { background: light-dark(#fff, #121118) }
a { color: light-dark(#5a3dcb, #b3a2ff) }
body { max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
"""
STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Sign in</title>
<style>{STYLE}</style>
<main>
<h1>Sign in</h1>
"""


def environment(people: Iterable[Person], **options: Any) -> dict[str, str]:
    """Return the environment variables for ``create_app``. `SignIn` describes ``options``."""
    users = {user.name: [user.cookie.partition("=")[2], user.rights] for user in people}
    return {VARIABLE: json.dumps({"people": users, **options}), "SIGN_IN_URL": URL}


def choice(origin: str, secret: str) -> str:
    """Return the URL of the page with a list of users."""
    return f"{origin}{URL}?secret={secret}"


def link(origin: str, name: str, secret: str) -> str:
    """Return the URL that signs a user in."""
    return f"{origin}{URL}/{name}?secret={secret}"


def create_app() -> ASGIApp:
    """Return the app behind the sign-in pages."""
    options = json.loads(os.environ.pop(VARIABLE))  # the app must not see the variable
    return SignIn(ReportsErrors(), **options)


class ReportsErrors:
    """Serves the app. If the app does not start, each response contains the reason."""

    def __init__(self) -> None:
        try:
            self._app: ASGIApp = importlib.import_module("app.main").app
        except Exception as error:  # noqa: BLE001 - code of the project
            self._app = _reason(error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_unless_failed(message: Message) -> None:
            if message["type"] != "lifespan.startup.failed":
                await send(message)

        try:
            await self._app(scope, receive, send_unless_failed)
        except Exception as error:
            if scope["type"] != "lifespan":
                raise
            self._app = _reason(error)


def _reason(error: Exception) -> ASGIApp:
    print(short_traceback(error), file=sys.stderr, flush=True)
    problem = f"{type(error).__name__}: {error}".partition("\n")[0]
    text = f"The app does not start: {problem}\nThe terminal shows the location."
    response = PlainTextResponse(text, HTTPStatus.SERVICE_UNAVAILABLE, HEADERS)

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await response(scope, receive, send)

    return respond


class SignIn:
    """ASGI middleware with a page of links. Each link sets the session cookie of one user."""

    def __init__(
        self,
        app: ASGIApp,
        secret: str,
        people: dict[str, Any],
        *,
        port: int = 0,
        token_file: str | None = None,
    ) -> None:
        """Wrap ``app``, whose port is part of the cookie name.

        ``people`` maps a user name to the session cookie and a description of the user's rights.
        A token in ``token_file`` replaces the cookie in requests to the app.
        """
        self._app, self._secret, self._people = app, secret, people
        self._cookie = f"{COOKIE}-{port}"
        self._token_file = token_file
        self._values = {value for value, _ in people.values()}
        # The second cookie is for deployed apps, which have no sign-in pages.
        self._cookies = [self._cookie] if token_file else [self._cookie, COOKIE]
        pages = [Route(URL, self._choose), Route(URL + "/{name}", self._sign_in)]
        pages.append(Route("/sign-out", self._sign_out))
        self._pages = Router(pages, redirect_slashes=False)
        self._local = TrustedHostMiddleware(self._serve, allowed_hosts=HOSTS, www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve requests whose Host header is a loopback name."""
        await self._local(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        is_sign_in = path in {URL, "/sign-out"} or path.startswith(f"{URL}/")
        if not (is_sign_in and scope["type"] == "http"):
            await self._app(self._with_credentials(scope), receive, send)
            return
        request = Request(scope)
        secret = request.query_params.get("secret", "").encode()
        is_admitted = secrets.compare_digest(secret, self._secret.encode())
        if path == URL and request.cookies.get(self._cookie) in self._values:
            is_admitted = True  # a signed-in user may choose another user
        await (self._pages if is_admitted else REFUSAL)(scope, receive, send)

    def _with_credentials(self, scope: Scope) -> Scope:
        """Replace this app's cookie by the credentials that a cluster would send to the app."""
        headers = MutableHeaders(raw=list(scope.get("headers", ())))
        pairs = [pair.strip() for pair in ";".join(headers.getlist("cookie")).split(";")]
        # Remove the cookies of all apps on this host.
        kept = [pair for pair in pairs if not pair.startswith(f"{COOKIE}-")]
        if kept == pairs:
            return scope
        own_pair = next((pair for pair in pairs if pair.startswith(f"{self._cookie}=")), "")
        if (value := own_pair.partition("=")[2]) in self._values:
            kept = [pair for pair in kept if not pair.startswith(f"{COOKIE}=")]
            if self._token_file is None:
                kept.append(f"{COOKIE}={value}")
            else:
                headers.setdefault("authorization", f"Bearer {Path(self._token_file).read_text()}")
        del headers["cookie"]
        if kept:
            headers["cookie"] = "; ".join(kept)
        return {**scope, "headers": headers.raw}

    async def _choose(self, request: Request) -> Response:
        lines = ["<p>Choose a user:</p>", "<ul>"]
        for name, (_, rights) in self._people.items():
            lines.append(f'<li><a href="{link("", name, self._secret)}">{name}</a> {rights}</li>')
        lines += ["</ul>", f'<p><a href="/sign-out?secret={self._secret}">Sign out</a></p>']
        return _page("\n".join(lines))

    async def _sign_in(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._people:
            return _page("<p>There is no user with this name.</p>", HTTPStatus.NOT_FOUND)
        response = RedirectResponse("/", HTTPStatus.SEE_OTHER, HEADERS)
        for cookie in self._cookies:
            response.set_cookie(cookie, self._people[name][0], httponly=True, samesite="lax")
        return response

    async def _sign_out(self, request: Request) -> Response:
        response = RedirectResponse(choice("", self._secret), HTTPStatus.SEE_OTHER, HEADERS)
        for cookie in self._cookies:
            response.delete_cookie(cookie, httponly=True, samesite="lax")
        return response


def _page(content: str, status: int = HTTPStatus.OK) -> Response:
    return HTMLResponse(f"{PAGE}{content}\n</main>", status, HEADERS)


REFUSAL = _page(
    "<p>Follow a link in the terminal where the app was started.</p>", HTTPStatus.FORBIDDEN
)
