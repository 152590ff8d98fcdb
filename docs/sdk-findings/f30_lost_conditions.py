"""QueueService receives no condition.

Without `_U_USE_ACTIONS=1`, a task starts its actions with QueueService. Its request for a
condition contains no condition. Flyte refuses the request, the task repeats it up to 100 times, and
no user sees the condition.

Severity: Medium, tried with 2.12.1.

Patch: `_internal/controllers/remote/_core.py`, `Controller._bg_launch`: `condition=condition`
in the request to QueueService, as in the one to ActionsService.
"""

import asyncio
from types import SimpleNamespace

from flyte._internal.controllers.remote._core import Action, Controller
from harness import ACTION

sent = []


async def clients():
    async def enqueue(request, **options):
        sent.append(request.WhichOneof("spec"))

    queue = SimpleNamespace(enqueue_action=enqueue)
    return SimpleNamespace(queue_service=queue, state_service=None, actions_service=None)


asked = Action.from_condition("a0", ACTION, "approval", "Approve?", bool, "s3://b/r", "s3://b/i")
asyncio.run(Controller(clients())._bg_launch(asked))
assert sent == [None]
