"""Tests of public paths."""

from fastapi import APIRouter

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving

from ..support import build_app

router = APIRouter()


@router.get("/things")
@router.get("/swagger-ui.css", include_in_schema=False)
async def things() -> str:
    return "things"


def test_app_routes_take_precedence_over_documentation_routes(local_flyte: LocalFlyte) -> None:
    """The router compares a request with all routes before the matching route."""
    owners = APIRouter()
    owners.add_api_route("/docs/{name}", things)
    with serving(build_app(owners)) as url, client_of(url, None) as client:
        assert client.get("/docs/swagger-ui.css").json() == "things"
        assert client.get("/health").json() == {"status": "ok"}


def test_only_public_paths_are_public_under_prefix(local_flyte: LocalFlyte) -> None:
    """The server adds the prefix (--root-path), here a public path, and routing removes it."""
    with serving(build_app(router), root_path="/docs") as url:
        with client_of(url, None) as client:
            for path in ("/health", "/docs", "/docs/swagger-ui.css"):
                assert client.get(path).status_code == 200
            for path in ("/things", "/docs/docs/swagger-ui.css", "/swagger-ui.css"):
                assert client.get(path).status_code == 401
        with client_of(url, "alice") as alice:
            assert alice.get("/things").text == '"things"'
            assert alice.get("/openapi.json").json()["servers"][0] == {"url": "/docs"}
