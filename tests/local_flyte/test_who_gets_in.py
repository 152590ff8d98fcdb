"""Only the user who started a local Flyte can use it; web pages in their browser can't."""

import asyncio
import json
import os
import secrets
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message

from local_flyte import PEOPLE, LocalFlyte, same_user
from local_flyte.banner import flyte_banner

from .on_the_wire import PROJECT, call

CREATE = "/flyteidl2.workflow.RunService/CreateRun"
NOBODY = 65534  # the user without rights on every Linux
KINDS: dict[str, Callable[[], LocalFlyte]] = {
    "union": LocalFlyte,
    "open-source": partial(LocalFlyte, authorization=False),
    "direct": partial(LocalFlyte, authorization=False, proxied=False),
    "devbox": partial(LocalFlyte, plaintext=True),
}
needs_other_user = pytest.mark.skipif(
    not same_user.is_known() or os.getuid() != 0,
    reason="needs Linux and root, who can be another user",
)


@pytest.fixture(scope="module", params=KINDS)
def flyte(request: pytest.FixtureRequest) -> Iterator[LocalFlyte]:
    with KINDS[request.param]() as flyte:
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


def altered(token: str) -> str:
    header, payload, _ = token.split(".")
    return f"{header}.{payload}.{secrets.token_urlsafe(32)}"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer e30.eyJzdWIiOiJzb21lb25lIn0.x"},  # {"sub": "someone"}
        {"Authorization": "Bearer e30.eyJzdWIiOiJzb21lb25lIn0."},
        {"X-Amzn-Oidc-Data": "e30.eyJzdWIiOiJzb21lb25lIn0.x"},
        {"X-Amzn-Oidc-Identity": "someone"},
        {"Authorization": "Bearer {altered}"},
        {"Authorization": "Bearer {expired}"},
        {"Authorization": "Bearer opaque"},
        {"Authorization": "Bearer opaque", "X-Amzn-Oidc-Identity": "someone"},
        {"Cookie": "flyte_at=opaque"},
        {},
    ],
)
def test_the_proxy_refuses_a_made_up_token(headers: dict[str, str], tmp_path: Path) -> None:
    with LocalFlyte(authorization=False) as flyte:
        values = {
            "altered": altered(flyte.token("alice")),
            "expired": PEOPLE["expired"].token,
        }
        sent = {name: value.format(**values) for name, value in headers.items()}
        assert status(flyte.url, CREATE, attack(tmp_path / "marker"), sent, flyte) == 401
        assert runs(flyte) is None


SEND = """
import os, socket, sys
port, request = int(sys.argv[1]), sys.argv[2].encode()
os.setuid(int(sys.argv[3]))
connection = socket.socket()
connection.connect(("127.0.0.1", port))
connection.sendall(request)
print(connection.recv(100_000).decode())
"""


def send_as(user: int, flyte: LocalFlyte, marker: Path) -> str:
    """Send the attack as a user of this machine, and return the answer."""
    port, body = str(urlsplit(flyte.url).port), attack(marker)
    request = (
        f"POST {CREATE} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"X-Forwarded-For: 127.0.0.1:{port}\r\n"  # the owner's connection, forged
        f"Content-Length: {len(body)}\r\n\r\n{body.decode()}"
    )
    command = [sys.executable, "-I", "-c", SEND, port, request, str(user)]
    return subprocess.check_output(command, text=True)


@needs_other_user
def test_without_secrets_another_user_of_this_machine_is_refused(tmp_path: Path) -> None:
    with LocalFlyte(plaintext=True) as flyte:
        assert send_as(NOBODY, flyte, tmp_path / "marker").startswith("HTTP/1.1 403")
        assert runs(flyte) is None
        assert send_as(os.getuid(), flyte, tmp_path / "marker").startswith("HTTP/1.1 200")


MAPPED = "0000000000000000FFFF0000"  # before an IPv4 address, in a socket for IPv4 and IPv6
CLIENT, SERVER = "0100007F:9C5E", "0100007F:1F90"


def row(client: str, server: str, user: int, inode: int) -> str:
    return f"4: {client} {server} 01 00000000:00000000 00:00000000 00000000 {user} 0 {inode} 1"


@pytest.mark.skipif(sys.byteorder != "little", reason="the rows are a little-endian machine's")
@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([row(CLIENT, SERVER, os.getuid(), 7)], 200),
        ([row(MAPPED + CLIENT, MAPPED + SERVER, os.getuid(), 7)], 200),
        ([row(CLIENT, SERVER, os.getuid() + 1, 7)], 403),
        # A client that has sent a request and left: older kernels list the socket as root's.
        ([row(CLIENT, SERVER, 0, 0)], 403),
        ([row(SERVER, CLIENT, os.getuid(), 7)], 403),
        ([row(CLIENT, "0100007F:1F91", os.getuid(), 7)], 403),
        ([], 403),
    ],
)
def test_the_user_of_a_connection_is_read_from_the_systems_table(
    rows: list[str], status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "tcp"
    table.write_text("\n".join(["a line of headings", *rows]))
    monkeypatch.setattr(same_user, "TABLES", [table, tmp_path / "no-ipv6"])
    app = same_user.SameUser(PlainTextResponse("answered"))
    scope = {"type": "http", "client": ("127.0.0.1", 40030), "server": ("127.0.0.1", 8080)}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app({**scope, "method": "GET", "headers": []}, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == status


def test_the_banner_warns_if_the_system_cannot_identify_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sentence = "every user of this machine can run programs as you"
    with LocalFlyte(plaintext=True) as flyte:
        if same_user.is_known():
            assert sentence not in flyte_banner(flyte)
        monkeypatch.setattr(same_user, "TABLES", [tmp_path / "no-such-table"])
        assert sentence in flyte_banner(flyte)
        assert runs(flyte) is None  # is answered
