"""Tests of authentication. The conformance cases test authorization."""

import base64
import json
import ssl
from urllib.parse import urlsplit

import httpx

from local_flyte import PEOPLE, LocalFlyte, Mode
from local_flyte.people import person

USER_INFO = "auth.IdentityService/UserInfo"
ALICE, BOB, EXPIRED = PEOPLE["alice"], PEOPLE["bob"], PEOPLE["expired"]
BY_KEY = {"X-Api-Key": ALICE.api_key}
AS_BOB = {"Authorization": f"Bearer {BOB.token}"}
SECRETS = {s for p in PEOPLE.values() for s in (p.token, p.cookie, p.api_key)}


def call(
    flyte: LocalFlyte, method: str, body: object = None, headers: dict[str, str] | None = None
) -> httpx.Response:
    trusted = ssl.create_default_context(cafile=str(flyte.ca_file))
    with httpx.Client(verify=trusted, trust_env=False, timeout=60) as client:
        return client.post(f"{flyte.url}/flyteidl2.{method}", json=body or {}, headers=headers)


def test_valid_credential_identifies_user() -> None:
    with LocalFlyte(credential_headers=["X-Tenant", "X-Api-Key"]) as flyte:
        for headers, subject in (
            ({"Authorization": f"bearer {BOB.token}", "Cookie": ALICE.cookie}, BOB.subject),
            ({"Cookie": f"theme=dark; {BOB.cookie}"}, BOB.subject),
            ({**BY_KEY, "X-Tenant": "acme", "Cookie": BOB.cookie}, ALICE.subject),
            ({"Authorization": ALICE.token}, None),
            ({"Authorization": "Bearer no-such-token", **BY_KEY}, None),
            ({"Cookie": EXPIRED.cookie}, None),
            ({"X-Api-Key": BOB.token, "Cookie": ALICE.cookie}, None),
        ):
            response = call(flyte, USER_INFO, headers=headers)
            expected = (200 if subject else 401, subject)
            assert (response.status_code, response.json().get("subject")) == expected, (
                headers.keys()
            )
            assert subject or not any(value in response.text for value in headers.values())


def jwt(**claims: str) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.unsigned"


def test_open_source_mode_reads_unverified_identities() -> None:
    """As ``runs/service/identity.go`` does; a verifying proxy must be in front of it."""
    token = {"Authorization": f"bearer {jwt(sub='carol', given_name='Carol')}"}
    cases: list[tuple[dict[str, str], str | None]] = [
        (token, "carol"),
        (token | {"X-Amzn-Oidc-Identity": "mallory"}, "mallory"),
        (token | {"X-Amzn-Oidc-Identity": "m", "X-Amzn-Oidc-Data": jwt(sub="dave")}, "dave"),
        ({"X-Amzn-Oidc-Data": "garbage"} | token, "carol"),
        ({"Authorization": f"Bearer {jwt(email='carol@example.com')}"}, None),
        ({"Authorization": "Bearer opaque"}, None),
        ({"Authorization": "Bearer e30.bnVsbA.x"}, None),  # the claims are null
        ({"Cookie": f"flyte_at={jwt(sub='carol')}"}, None),
    ]
    with LocalFlyte(mode=Mode.DEVBOX) as flyte:
        for headers, subject in cases:
            response = call(flyte, USER_INFO, headers=headers)
            expected = (200 if subject else 401, subject)
            assert (response.status_code, response.json().get("subject")) == expected, headers
            assert call(flyte, "project.ProjectService/ListProjects", headers=headers).is_success


def test_credentials_are_new_at_each_start() -> None:
    again = person("alice", "Adams")
    assert again.subject == ALICE.subject
    assert len(SECRETS | {again.token, again.cookie, again.api_key}) == 3 * (len(PEOPLE) + 1)


def test_credentials_are_only_in_private_files(local_flyte: LocalFlyte) -> None:
    config, token = local_flyte.config_file("bob"), local_flyte.home / "bob.token"
    assert BOB.token not in config.read_text()  # a token there would be visible in command lines
    assert token.read_text().strip() == BOB.token
    assert local_flyte.home.stat().st_mode & 0o077 == 0
    call(local_flyte, USER_INFO, headers=AS_BOB)
    recorded = local_flyte.calls[-1]
    assert recorded.headers["authorization"] == AS_BOB["Authorization"]
    text = repr((recorded, vars(local_flyte), PEOPLE))
    assert "alice-subject" in text
    assert not any(secret in text for secret in SECRETS)


def test_requests_from_other_sites_are_refused() -> None:
    """The server has no authentication; the requests use DNS rebinding or need no preflight."""
    with LocalFlyte(mode=Mode.DEVBOX) as flyte, httpx.Client(trust_env=False, timeout=60) as client:
        file = {"project": "flytesnacks", "domain": "development", "filename": "x"}
        method = "dataproxy.DataProxyService/CreateUploadLocation"
        upload = call(flyte, method, {**file, "filenameRoot": "r"}).json()["signedUrl"]
        projects = f"{flyte.url}/flyteidl2.project.ProjectService/ListProjects"
        assert client.post(projects, json={}).is_success
        for url in (projects, flyte.url, upload):
            for host in ("localhost.evil.example", f"evil.example:{urlsplit(url).port}"):
                assert client.post(url, json={}, headers={"Host": host}).status_code == 400
        for kind in ("text/plain", ""):
            response = client.post(projects, content="{}", headers={"Content-Type": kind})
            assert response.status_code == 415
