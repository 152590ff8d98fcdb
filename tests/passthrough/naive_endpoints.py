"""Endpoints by somebody who has just generated a project and has read Flyte's documentation.

They are naive on purpose, and have to be safe anyway: ``calls/test_make_safe.py`` calls them.
"""

from typing import Any

import flyte
from fastapi import APIRouter
from flyte import remote

router = APIRouter()


@router.get("/whoami")
async def whoami() -> dict[str, str]:
    user = await remote.User.get.aio()
    return {"subject": user.subject(), "name": user.name()}


@router.get("/projects")
def projects() -> list[str]:
    return [project.pb2.id for project in remote.Project.listall()]


@router.get("/tasks/{name}")
async def task(name: str) -> dict[str, Any]:
    details = await remote.Task.get(name, auto_version="latest").fetch.aio()
    return {
        "version": details.version,
        "required": details.required_args,
        "schema": details.interface.json_schema,
    }


@router.post("/tasks/{name}/run")
async def run_and_wait(name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    run = await flyte.run.aio(remote.Task.get(name, auto_version="latest"), **inputs)
    await run.wait.aio(quiet=True)
    await run.raise_for_status.aio()
    outputs = await run.outputs.aio()
    return {"name": run.name, "url": run.url, "outputs": outputs.named_outputs}


@router.post("/run-task/{project}/{domain}/{name}")
async def run_in(project: str, domain: str, name: str, inputs: dict[str, Any]) -> str:
    task = remote.Task.get(name, project=project, domain=domain, auto_version="latest")
    context = flyte.with_runcontext(project=project, domain=domain, labels={"from": "app"})
    return (await context.run.aio(task, **inputs)).name


@router.get("/runs")
async def runs() -> list[dict[str, Any]]:
    listed = remote.Run.listall.aio(in_phase=("running", "succeeded"), limit=20)
    return [{"name": run.name, "phase": run.phase} async for run in listed]


@router.get("/runs/{name}")
async def status(name: str) -> dict[str, Any]:
    run = await remote.Run.get.aio(name=name)
    details = await run.details.aio()
    error = details.action_details.error_info
    phase = details.action_details.phase.name
    return {"url": run.url, "phase": phase, "error": error.message if error else ""}


@router.get("/runs/{name}/log")
async def log(name: str) -> list[str]:
    run = await remote.Run.get.aio(name)
    return [line async for line in run.get_logs.aio()]


@router.get("/runs/{name}/io")
def io(name: str) -> dict[str, Any]:
    run = remote.Run.get(name)
    return {"inputs": dict(run.inputs()), "outputs": run.outputs()}


@router.post("/runs/{name}/again")
async def again(name: str, changed: dict[str, Any]) -> str:
    return (await flyte.rerun.aio(name, **changed)).name


@router.post("/runs/{name}/abort")
async def abort(name: str) -> None:
    run = await remote.Run.get.aio(name)
    await run.abort.aio("no longer needed")
