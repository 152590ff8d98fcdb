"""Only the user who started a local Flyte can use it; web pages in their browser can't."""

import json
import platform
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from local_flyte import LocalFlyte, Mode, same_user
from local_flyte.banner import flyte_banner

from .on_the_wire import PROJECT, call

CREATE = "/flyteidl2.workflow.RunService/CreateRun"


@pytest.fixture(scope="module", params=Mode)
def flyte(request: pytest.FixtureRequest) -> Iterator[LocalFlyte]:
    with LocalFlyte(mode=request.param) as flyte:
        yield flyte


def attack(marker: Path) -> bytes:
    """Return a request that runs a command if it is answered."""
    container = {"command": ["touch", str(marker)]}
    spec = {"taskTemplate": {"interface": {}, "container": container}}
    scope = {"projectId": PROJECT}
    return json.dumps({**scope, "taskSpec": spec, "inputs": {}}).encode()


def status(url: str, path: str, body: bytes, headers: dict[str, str], flyte: LocalFlyte) -> int:
    """Send a request unchanged, and return the status of the answer."""
    return httpx.post(
        url + path,
        content=body,
        headers={"Content-Type": "application/json", **headers},
        verify=ssl.create_default_context(cafile=str(flyte.ca_file)),
        trust_env=False,
        timeout=60,
    ).status_code


def runs(flyte: LocalFlyte) -> object:
    """Return the runs so far."""
    headers = {"Authorization": f"Bearer {flyte.token('alice')}"}
    answer = call(flyte, "workflow.RunService/ListRuns", {"projectId": PROJECT}, headers=headers)
    assert answer.status_code == 200
    return answer.json().get("runs")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "localhost.evil.example"])
def test_dns_rebinding_is_refused(flyte: LocalFlyte, host: str, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {flyte.token('alice')}"}
    location = {"project": PROJECT["name"], "domain": PROJECT["domain"], "filename": "x"}
    method = "dataproxy.DataProxyService/CreateUploadLocation"
    answer = call(flyte, method, {**location, "filenameRoot": "r"}, headers=headers)
    upload = urlsplit(answer.json()["signedUrl"])
    for url, path in (
        (flyte.url, CREATE),
        (flyte.url, "/flyteidl2.auth.IdentityService/UserInfo"),
        (flyte.url, "/"),
        (f"http://{upload.netloc}", upload.path),
    ):
        named = host.format(port=urlsplit(url).port)
        body = attack(tmp_path / "marker") if path == CREATE else b"{}"
        assert status(url, path, body, {**headers, "Host": named}, flyte) == 400, path
    assert runs(flyte) is None


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
def test_its_own_host_names_are_accepted(flyte: LocalFlyte, host: str) -> None:
    headers = {
        "Authorization": f"Bearer {flyte.token('alice')}",
        "Host": host.format(port=urlsplit(flyte.url).port),
    }
    path = "/flyteidl2.project.ProjectService/ListProjects"
    assert status(flyte.url, path, b"{}", headers, flyte) == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_simple_requests_of_other_sites_are_refused(
    flyte: LocalFlyte, kind: str, tmp_path: Path
) -> None:
    """A page of another site can send these without a preflight (simple requests in CORS)."""
    headers = {"Content-Type": kind, "Authorization": f"Bearer {flyte.token('alice')}"}
    assert status(flyte.url, CREATE, attack(tmp_path / "marker"), headers, flyte) == 415
    assert runs(flyte) is None


def test_the_banner_warns_if_the_system_cannot_identify_users(
    local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = "other users of this\nmachine may be able to run programs as you"
    assert (sentence in flyte_banner(local_flyte)) != same_user.is_known()
    same_user.is_known.cache_clear()
    monkeypatch.setattr(platform, "release", lambda: "6.6.87.2-microsoft-standard-WSL2")
    assert sentence in flyte_banner(local_flyte)
    runs(local_flyte)  # is answered
    same_user.is_known.cache_clear()


def test_an_upload_that_is_not_expected_is_refused_unread(local_flyte: LocalFlyte) -> None:
    uploads = urlsplit(local_flyte._services.storage.address)
    with socket.create_connection((uploads.hostname, uploads.port), 60) as connection:
        connection.sendall(
            b"PUT /upload/guessed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 403")
