"""TriggerService: the schedules of tasks. They are stored and listed, but never start runs."""

from flyteidl2.common import identifier_pb2
from flyteidl2.trigger import trigger_definition_pb2, trigger_service_connect
from flyteidl2.trigger import trigger_service_pb2 as pb

from .access import Context, found
from .actions import now

_Details = trigger_definition_pb2.TriggerDetails


class TriggerService(trigger_service_connect.TriggerService):
    """Stores triggers by project, domain, task and name."""

    def __init__(self) -> None:
        self._triggers: dict[tuple[str, ...], _Details] = {}

    async def deploy_trigger(
        self, request: pb.DeployTriggerRequest, ctx: Context
    ) -> pb.DeployTriggerResponse:
        """Store a trigger, replacing one with the same name."""
        spec, automation = request.spec, request.automation_spec
        trigger = _Details(spec=spec, automation_spec=automation, description=spec.description)
        trigger.id.name.CopyFrom(request.name)
        trigger.status.deployed_at.CopyFrom(now())
        self._triggers[_key(request.name)] = trigger
        return pb.DeployTriggerResponse(trigger=trigger)

    async def get_trigger_details(
        self, request: pb.GetTriggerDetailsRequest, ctx: Context
    ) -> pb.GetTriggerDetailsResponse:
        trigger = self._triggers.get(_key(request.name))
        return pb.GetTriggerDetailsResponse(trigger=found(trigger, f"trigger {request.name.name}"))

    async def list_triggers(
        self, request: pb.ListTriggersRequest, ctx: Context
    ) -> pb.ListTriggersResponse:
        """List the triggers of a task, in one page."""
        task = request.task_name
        shown = [
            trigger_definition_pb2.Trigger(
                id=each.id,
                metadata=each.metadata,
                status=each.status,
                active=each.spec.active,
                automation_spec=each.automation_spec,
            )
            for key, each in sorted(self._triggers.items())
            if key[:-1] == (task.project, task.domain, task.name)
        ]
        return pb.ListTriggersResponse(triggers=shown)

    async def update_triggers(
        self, request: pb.UpdateTriggersRequest, ctx: Context
    ) -> pb.UpdateTriggersResponse:
        """Activate or deactivate triggers. Unknown names are ignored."""
        for name in request.names:
            if (trigger := self._triggers.get(_key(name))) is not None:
                trigger.spec.active = request.active
        return pb.UpdateTriggersResponse()


def _key(name: identifier_pb2.TriggerName) -> tuple[str, ...]:
    return name.project, name.domain, name.task_name, name.name
