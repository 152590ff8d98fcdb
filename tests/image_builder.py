"""The task with which Flyte builds images, on a local Flyte, which otherwise has none."""

from local_flyte import LocalFlyte

from .local_flyte.on_the_wire import call


def deploy_builder(flyte: LocalFlyte) -> None:
    """Deploy a builder whose runs fail."""
    names = {"project": "system", "domain": "production", "name": "build-image", "version": "1"}
    text = {"type": {"simple": "STRING"}}
    inputs = [{"key": key, "value": text} for key in ("spec", "context", "target_image")]
    template = {
        "id": names,
        "interface": {"inputs": {"variables": inputs}},
        "container": {"command": ["false"]},
    }
    deploy = {"taskId": names, "spec": {"taskTemplate": template}}
    answer = call(flyte, "task.TaskService/DeployTask", deploy, person="alice")
    assert answer.status_code == 200, answer.text
