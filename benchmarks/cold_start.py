"""The time from ``fserve`` to the first answer, for the generated app and for the smallest app.

    python benchmarks/cold_start.py [rounds]

Generates the default project, installs its image's packages, deploys it and the smallest FastAPI
app to a local Flyte with the real ``flyte deploy``, and starts the deployed apps in turn, with
exactly the container commands, in empty directories. Prints the median of each, and of the ratios
of neighbouring runs, which are valid even if the machine's speed drifts.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS = 11
SMALLEST = """
import fastapi
from flyte.app.extras import FastAPIAppEnvironment

app = fastapi.FastAPI()

@app.get("/health")
async def health() -> str:
    return "ok"

app_env = FastAPIAppEnvironment(name="smallest", app=app, image="auto")
"""


def prepare() -> None:
    """Generate and install the project, and continue in its environment."""
    from cookiecutter.main import cookiecutter

    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "cookiecutter.yaml"
        config.write_text(f"cookiecutters_dir: {folder}/clones\nreplay_dir: {folder}/replay\n")
        template = Path(__file__).parent.parent
        project = cookiecutter(
            str(template), no_input=True, output_dir=folder, config_file=str(config)
        )
        python = Path(folder) / "environment" / "bin" / "python"
        uv = [sys.executable, "-m", "uv"]
        run = [*uv, "venv", "--quiet", "--python", sys.executable, python.parent.parent]
        subprocess.run(run, check=True)
        requirements = Path(project) / "pyproject.toml"
        run = [*uv, "pip", "install", "--quiet", "--python", python, "-r", requirements]
        run += ["--compile-bytecode", "--group", f"{requirements}:dev"]  # as in an image
        subprocess.run(run, check=True)
        environment = {**os.environ, "PYTHONPATH": project, "COLD_START_PROJECT": project}
        command = [python, Path(__file__).resolve(), *sys.argv[1:]]
        subprocess.run(command, env=environment, cwd=project, check=True)


async def start(containers: Any, command: list[str], environment: dict[str, str]) -> float:
    """Start an app, and return the seconds until its first answer."""
    import httpx

    from local_flyte.apps import free_port, other_port

    port = free_port()
    output: list[str] = []
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
        assert response.status_code == 200
        running.cancel()
        await asyncio.wait({running})
    return seconds


def measure(rounds: int) -> None:
    """Deploy both apps and start them in turn."""
    from flyte import init_passthrough, remote

    from local_flyte import PEOPLE, LocalFlyte
    from local_flyte.processes import Containers

    with LocalFlyte() as flyte, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "deployment.py").write_text(SMALLEST)
        places = {"smallest": Path(folder), "my-flyte-app": Path(os.environ["COLD_START_PROJECT"])}
        os.environ |= flyte.app_environment()
        init_passthrough(project=flyte.project, domain=flyte.domain)
        commands = {}
        for name, root in places.items():
            os.environ["PYTHONPATH"] = str(root)
            flyte.deploy(root, env="app_env")
            with remote.auth_metadata(("authorization", f"Bearer {PEOPLE['alice'].token}")):
                container = remote.App.get(name).pb2.spec.container
            commands[name] = [*container.command, *container.args]
            cli = [Path(sys.executable).with_name("flyte"), "-c", flyte.config_file()]
            subprocess.run(
                [*cli, "update", "app", name, "--deactivate"], check=True, capture_output=True
            )
        containers = Containers(Path(sys.executable).parent, Path(folder) / "containers")
        times: dict[str, list[float]] = {name: [] for name in commands}
        for round_ in range(rounds + 1):  # the first one fills caches and does not count
            for name, command in commands.items():
                seconds = asyncio.run(start(containers, command, flyte.app_environment()))
                if round_:
                    times[name].append(seconds)
        for name, all_seconds in times.items():
            print(f"{name:14} {statistics.median(all_seconds):.2f} s")
        pairs = zip(times["my-flyte-app"], times["smallest"], strict=True)
        print(f"{'ratio':14} {statistics.median(a / b for a, b in pairs):.2f}")


if __name__ == "__main__":
    if "COLD_START_PROJECT" in os.environ:
        measure(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
    else:
        prepare()
