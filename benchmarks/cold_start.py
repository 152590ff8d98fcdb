"""Measure the time from ``fserve`` to the first response, compared with the smallest app.

    python benchmarks/cold_start.py [--rounds N] [ANOTHER CHECKOUT OF THE TEMPLATE ...]

Generate the default project; deploy it and the smallest FastAPI app to a local Flyte server with
``flyte deploy``; start the deployed apps in turn, with the container commands, in empty folders and
with the packages of this environment. Print the median of each app, and the median ratio to the
smallest app in the same round, which is valid also if the speed of the machine changes.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from servers import ROOT, generate

sys.path.insert(0, str(ROOT / "{{cookiecutter.project_slug}}"))

from flyte import init_passthrough, remote

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.apps import free_port, other_port
from local_flyte.processes import Containers

SMALLEST = """
import fastapi
from flyte.app.extras import FastAPIAppEnvironment

app = fastapi.FastAPI()

@app.get("/health")
async def health() -> str:
    return "ok"

app_env = FastAPIAppEnvironment(name="smallest", app=app, image="auto")
"""


async def start(containers: Containers, command: list[str], environment: dict[str, str]) -> float:
    """Start an app, and return the seconds until the first response."""
    port, output = free_port(), list[str]()
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        running = asyncio.create_task(
            containers.run(
                command,
                directory=Path(directory),
                environment={**environment, **other_port(port)},
                started=lambda: None,
                output=output.append,
            )
        )
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    response = await client.get(f"http://127.0.0.1:{port}/health")
                    break
                except httpx.TransportError:
                    if running.done():
                        raise SystemExit("".join(output)) from None
                    await asyncio.sleep(0.002)
        seconds = time.perf_counter() - began
        response.raise_for_status()
        running.cancel()
        await asyncio.wait({running})
    return seconds


def deploy(flyte: LocalFlyte, root: Path) -> list[str]:
    """Deploy the app in a folder, stop it, and return the command of the container."""
    os.environ["PYTHONPATH"] = str(root)
    flyte.deploy(root, env="app_env")
    name = "smallest" if root.name == "smallest" else "my-flyte-app"
    with remote.auth_metadata(("authorization", f"Bearer {PEOPLE['alice'].token}")):
        container = remote.App.get(name).pb2.spec.container
    cli = [Path(sys.executable).with_name("flyte"), "-c", flyte.config_file()]
    subprocess.run([*cli, "update", "app", name, "--deactivate"], check=True, capture_output=True)
    return [*container.command, *container.args]


def main() -> None:
    """Deploy all apps, and start them in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("templates", nargs="*", type=Path, help="other checkouts to compare with")
    options = parser.parse_args()
    with LocalFlyte() as flyte, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = flyte.app_environment()
        os.environ |= environment
        init_passthrough(project=flyte.project, domain=flyte.domain)
        (folder / "smallest").mkdir()
        (folder / "smallest" / "deployment.py").write_text(SMALLEST)
        roots = {"the smallest app": folder / "smallest"}
        for number, template in enumerate([ROOT, *options.templates]):
            (folder / str(number)).mkdir()
            roots[str(template)] = generate(folder / str(number), template.resolve())
        commands = {label: deploy(flyte, root) for label, root in roots.items()}
        containers = Containers(Path(sys.executable).parent, folder / "containers")
        times: dict[str, list[float]] = {label: [] for label in commands}
        for round_ in range(options.rounds + 1):  # the first round warms caches and is not counted
            for label, command in commands.items():
                seconds = asyncio.run(start(containers, command, environment))
                if round_:
                    times[label].append(seconds)
    smallest, *_ = times.values()
    for label, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, smallest, strict=True))
        print(f"{statistics.median(seconds):.2f} s, {ratio:.2f} times the smallest app: {label}")


if __name__ == "__main__":
    main()
