"""Two replicas behind nginx: nothing is shared between them, and either can be replaced."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from local_flyte import PEOPLE, LocalFlyte, sign_in
from local_flyte.testing import wait_until

from ..nginx import in_front_of
from ..served import SECRET, App
from .test_walkthrough import log_lines
from .visiting import Visitors, finished, started

AUTHORIZATION = f"Authorization: Bearer {PEOPLE['alice'].token}"
LINES = [f"{number} of 40" for number in range(1, 41)]


@pytest.fixture
def replicas(
    flyte: LocalFlyte, serve: Callable[[dict[str, str]], App]
) -> Iterator[tuple[App, App]]:
    variables = flyte.app_environment() | sign_in.environment(PEOPLE.values(), SECRET)
    with closing(serve(variables)) as first, closing(serve(variables)) as second:
        first.start()
        second.start()
        yield first, second


class Curl:
    """A viewer who reads a log with curl, and resumes where it was cut off."""

    def __init__(self, url: str) -> None:
        self.lines: list[str] = []
        self.last, self.times = "", 0
        self._url = url
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while self.lines[-1:] != LINES[-1:]:
            self.times += 1
            headers = (
                [AUTHORIZATION, f"Last-Event-ID: {self.last}"] if self.last else [AUTHORIZATION]
            )
            command = ["curl", "-sN", *(f"-H{header}" for header in headers), self._url]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
                for line in curl.stdout or ():
                    field, _, value = line.rstrip("\n").partition(": ")
                    if field == "id":
                        self.last = value
                    elif field == "data" and value.endswith(" of 40"):
                        self.lines.append(value)
            time.sleep(1)  # as the stream's `retry` field requests

    def wait(self) -> None:
        """Wait until the last line has come."""
        self._thread.join(300)
        assert not self._thread.is_alive()


def client_of(url: str, name: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {PEOPLE[name].token}"}
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60)


def test_a_caller_has_the_same_identity_and_runs_on_each_replica(
    replicas: tuple[App, App], tmp_path: Path
) -> None:
    first, second = replicas
    with client_of(first.url, "alice") as alice, client_of(second.url, "bob") as bob:
        name = started(alice, "greet", name="Ada")
        assert finished(bob, name) == "succeeded"
    with in_front_of(tmp_path, first.port, second.port) as nginx:
        for person in ("alice", "bob", "bob") * 3:
            with client_of(nginx.url, person) as client:
                assert client.get("/me").json()["subject"] == PEOPLE[person].subject


def test_the_page_and_curl_continue_when_the_replica_is_replaced(
    replicas: tuple[App, App], tmp_path: Path, browser: Browser
) -> None:
    (first, second), gate = replicas, tmp_path / "gate"
    with in_front_of(tmp_path, first.port) as nginx:
        with client_of(nginx.url, "alice") as api:
            name = started(api, "stop_halfway", gate=str(gate))
        curl = Curl(f"{nginx.url}/runs/{name}/logs")
        visitors = Visitors(browser, nginx)
        page = visitors("alice").go(f"runs/{name}")
        expect(page.get_by_role("log")).to_contain_text("3 of 40")
        wait_until(lambda: "3 of 40" in curl.lines)
        nginx.lead_to(second.port)
        first.replace()
        gate.touch()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
        wait_until(lambda: log_lines(page)[-1:] == LINES[-1:])
        curl.wait()
        assert log_lines(page) == curl.lines == LINES
        assert curl.times > 1
        assert visitors.close() == []
