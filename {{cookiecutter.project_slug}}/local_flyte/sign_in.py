"""Wraps the app for ``python -m local_flyte``: serves only this machine, and adds a sign-in.

On a cluster, Flyte's own sign-in in front of an app sets the cookie. Here links do: one shows a
choice of the local Flyte's people, and there is one for each of them. The links contain a secret
that is new at each start. The app itself contains none of this.
"""

import importlib
import json
import os
import secrets
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from .people import COOKIE, Person
from .same_user import refuse_others
from .serving import HOSTS

VARIABLE = "LOCAL_FLYTE_SIGN_IN"
URL = "/sign-in"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action"
    " 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Sign in to the local Flyte</title>
<link rel="stylesheet" href="/page/style.css">
<main class="wide"><div>
<h1>Sign in to the local Flyte</h1>
{content}
</div></main>
"""


def environment(people: Iterable[Person], secret: str) -> dict[str, str]:
    """Return the variables with which uvicorn serves ``create_app``.

    Without people there is no sign-in.
    """
    known = {each.name: [each.cookie.partition("=")[2], each.rights] for each in people}
    where = {"SIGN_IN_URL": URL} if known else {}
    return {VARIABLE: json.dumps({"secret": secret, "people": known}), **where}


def choice(origin: str, secret: str) -> str:
    """Return the URL of the page with a choice of people."""
    return f"{origin}{URL}?secret={secret}"


def link(origin: str, name: str, secret: str) -> str:
    """Return the URL that signs a person in."""
    return f"{origin}{URL}/{name}?secret={secret}"


def create_app() -> ASGIApp:
    """Return the app with the sign-in around it."""
    refuse_others()
    known = json.loads(os.environ.pop(VARIABLE))  # hidden from the app
    return SignIn(importlib.import_module("app.main").app, known["secret"], known["people"])


class SignIn:
    """ASGI middleware: a page with a choice of people, and links that set their cookies."""

    def __init__(self, app: ASGIApp, secret: str, people: dict[str, Any]) -> None:
        """Wrap ``app``.

        Args:
            app: The application for all other requests.
            secret: The secret in the links.
            people: The value of the sign-in cookie, and a description of the rights, of each
                person. Without people there is no sign-in, and every path belongs to the app.
        """
        self._app = app
        self._secret = secret
        self._people = people
        self._pages = Router(
            [
                Route(URL, self._choose),
                Route(URL + "/{name}", self._sign_in),
                Route("/sign-out", self._sign_out),
            ],
            redirect_slashes=False,
        )
        self._local = TrustedHostMiddleware(self._serve, allowed_hosts=HOSTS, www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve requests that use this machine's own name."""
        await self._local(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        ours = path in {URL, "/sign-out"} or path.startswith(f"{URL}/")
        if not (self._people and ours and scope["type"] == "http"):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        given = request.query_params.get("secret", "").encode()
        is_somebody = request.cookies.get(COOKIE) in {value for value, _ in self._people.values()}
        has_secret = secrets.compare_digest(given, self._secret.encode())
        admitted = has_secret or (path == URL and is_somebody)
        await (self._pages if admitted else REFUSAL)(scope, receive, send)

    async def _choose(self, request: Request) -> Response:
        people = "\n".join(
            f'<li><a class="card" href="{link("", name, self._secret)}">{name} {rights}</a>'
            for name, (_, rights) in self._people.items()
        )
        sign_out = f'<p><a href="/sign-out?secret={self._secret}">Sign out</a></p>'
        choices = f'<ul class="stack">\n{people}\n</ul>'
        return _page(f"<p>Who do you want to be?</p>\n{choices}\n{sign_out}")

    async def _sign_in(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._people:
            return _page("<p>There is no person with this name.</p>", HTTPStatus.NOT_FOUND)
        response = RedirectResponse("/", HTTPStatus.SEE_OTHER, HEADERS)
        response.set_cookie(COOKIE, self._people[name][0], httponly=True, samesite="lax")
        return response

    async def _sign_out(self, request: Request) -> Response:
        response = RedirectResponse(choice("", self._secret), HTTPStatus.SEE_OTHER, HEADERS)
        response.delete_cookie(COOKIE, httponly=True, samesite="lax")
        return response


def _page(content: str, status: int = HTTPStatus.OK) -> Response:
    return HTMLResponse(PAGE.format(content=content), status, HEADERS)


REFUSAL = _page(
    "<p>Follow one of the links printed in the terminal where the app was started."
    " They are new at each start.</p>",
    HTTPStatus.FORBIDDEN,
)
