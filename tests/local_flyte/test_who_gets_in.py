"""Only the user who started a local Flyte can use it; web pages in their browser can't."""

import platform
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from local_flyte import LocalFlyte, Mode, same_user
from local_flyte.banner import flyte_banner

from .on_the_wire import PROJECT, call

CREATE = "/flyteidl2.workflow.RunService/CreateRun"


@pytest.fixture(scope="module")
def flyte() -> Iterator[LocalFlyte]:
    """A Flyte that asks for no credentials."""
    with LocalFlyte(mode=Mode.DEVBOX) as flyte:
        yield flyte


def attack(url: str, folder: Path, **headers: str) -> httpx.Response:
    """Send a request that runs a command if it is answered."""
    container = {"command": ["touch", str(folder / "marker")]}
    spec = {"taskTemplate": {"interface": {}, "container": container}}
    body = {"projectId": PROJECT, "taskSpec": spec, "inputs": {}}
    with httpx.Client(trust_env=False, timeout=60) as client:
        return client.post(url, json=body, headers=headers)


def runs(flyte: LocalFlyte, person: str = "") -> object:
    """Return the runs so far."""
    answer = call(flyte, "workflow.RunService/ListRuns", {"projectId": PROJECT}, person=person)
    assert answer.status_code == 200
    return answer.json().get("runs")


def test_dns_rebinding_is_refused(flyte: LocalFlyte, tmp_path: Path) -> None:
    location = {"project": PROJECT["name"], "domain": PROJECT["domain"], "filename": "x"}
    method = "dataproxy.DataProxyService/CreateUploadLocation"
    upload = call(flyte, method, {**location, "filenameRoot": "r"}).json()["signedUrl"]
    for url in (flyte.url + CREATE, flyte.url, upload):
        for host in ("localhost.evil.example", f"evil.example:{urlsplit(url).port}"):
            assert attack(url, tmp_path, Host=host).status_code == 400
    assert runs(flyte) is None


def test_simple_requests_of_other_sites_are_refused(flyte: LocalFlyte, tmp_path: Path) -> None:
    """A page of another site can send these without a preflight (simple requests in CORS)."""
    for kind in ("text/plain", ""):
        sent = attack(flyte.url + CREATE, tmp_path, **{"Content-Type": kind})
        assert sent.status_code == 415
    assert runs(flyte) is None


def test_the_banner_warns_if_the_system_cannot_identify_users(
    local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = "other users of this\nmachine may be able to run programs as you"
    assert (sentence in flyte_banner(local_flyte)) != same_user.is_known()
    same_user.is_known.cache_clear()
    monkeypatch.setattr(platform, "release", lambda: "6.6.87.2-microsoft-standard-WSL2")
    assert sentence in flyte_banner(local_flyte)
    runs(local_flyte, "alice")  # is answered
    same_user.is_known.cache_clear()
