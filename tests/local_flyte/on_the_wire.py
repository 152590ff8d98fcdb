"""Calls of the local Flyte with plain HTTP."""

import ssl

import httpx

from local_flyte import PEOPLE, LocalFlyte


def call(
    flyte: LocalFlyte,
    method: str,
    body: object = None,
    *,
    person: str = "",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """Call a method, such as ``auth.IdentityService/UserInfo``, as a person or with headers."""
    credentials = {"Authorization": f"Bearer {PEOPLE[person].token}"} if person else {}
    return httpx.post(
        f"{flyte.url}/flyteidl2.{method}",
        json=body or {},
        headers=credentials | (headers or {}),
        verify=ssl.create_default_context(cafile=str(flyte.ca_file)),
        trust_env=False,
        timeout=60,
    )
