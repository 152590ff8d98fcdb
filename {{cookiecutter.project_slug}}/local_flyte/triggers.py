"""TriggerService: the schedules of tasks. They are stored and listed, but never start runs."""

from flyteidl2.common import identifier_pb2, list_pb2
from flyteidl2.task import common_pb2
from flyteidl2.trigger import trigger_definition_pb2, trigger_service_connect
from flyteidl2.trigger import trigger_service_pb2 as pb

from .access import CALLER, Context, found
from .actions import now
from .listing import Fields, page

_Details = trigger_definition_pb2.TriggerDetails
FIELDS: Fields[_Details] = {
    "name": lambda trigger: trigger.id.name.name,
    "task_name": lambda trigger: trigger.id.name.task_name,
    "active": lambda trigger: int(trigger.spec.active),
    "updated_at": lambda trigger: trigger.status.updated_at.ToNanoseconds(),
}
ACTIVE_THEN_NEWEST = [
    list_pb2.Sort(key=key, direction=list_pb2.Sort.DESCENDING) for key in ("active", "updated_at")
]


class TriggerService(trigger_service_connect.TriggerService):
    """Stores triggers by project, domain, task and name, each in its latest revision."""

    def __init__(self) -> None:
        self._triggers: dict[_Key, _Details] = {}

    def get(self, name: identifier_pb2.TriggerName) -> _Details:
        """Return a trigger, or raise NOT_FOUND."""
        return found(self._triggers.get(_key(name)), f"trigger {name.name} of {name.task_name}")

    def keep(
        self,
        name: identifier_pb2.TriggerName,
        spec: trigger_definition_pb2.TriggerSpec,
        automation: common_pb2.TriggerAutomationSpec,
    ) -> _Details:
        """Store a trigger, replacing one with the same name."""
        earlier = self._triggers.get(_key(name), _Details())
        name.org = ""
        trigger = _Details(spec=spec, automation_spec=automation, description=spec.description)
        trigger.id.name.CopyFrom(name)
        trigger.id.revision = earlier.id.revision + 1
        trigger.status.deployed_at.CopyFrom(now())
        trigger.status.updated_at.CopyFrom(now())
        if (someone := CALLER.get()) is not None:
            trigger.metadata.deployed_by.CopyFrom(someone.identity)
        self._triggers[_key(name)] = trigger
        return trigger

    async def deploy_trigger(
        self, request: pb.DeployTriggerRequest, ctx: Context
    ) -> pb.DeployTriggerResponse:
        trigger = self.keep(request.name, request.spec, request.automation_spec)
        return pb.DeployTriggerResponse(trigger=trigger)

    async def get_trigger_details(
        self, request: pb.GetTriggerDetailsRequest, ctx: Context
    ) -> pb.GetTriggerDetailsResponse:
        return pb.GetTriggerDetailsResponse(trigger=self.get(request.name))

    async def list_triggers(
        self, request: pb.ListTriggersRequest, ctx: Context
    ) -> pb.ListTriggersResponse:
        """List the triggers of a project and domain, or of a task; active ones first."""
        scope = request.task_name if request.HasField("task_name") else request.task_id
        prefix: tuple[str, ...] = (scope.project, scope.domain, scope.name)
        if request.HasField("project_id"):
            prefix = (request.project_id.name, request.project_id.domain)
        triggers = [
            each
            for key, each in self._triggers.items()
            if key[: len(prefix)] == prefix
            and request.task_id.version in {"", each.spec.task_version}
        ]
        listed, token = page(
            triggers,
            request.request,
            FIELDS,
            name=lambda trigger: trigger.id.name.name,
            default=ACTIVE_THEN_NEWEST,
            eager=True,
        )
        shown = [
            trigger_definition_pb2.Trigger(
                id=each.id,
                metadata=each.metadata,
                status=each.status,
                active=each.spec.active,
                automation_spec=each.automation_spec,
            )
            for each in listed
        ]
        return pb.ListTriggersResponse(triggers=shown, token=token)

    async def update_triggers(
        self, request: pb.UpdateTriggersRequest, ctx: Context
    ) -> pb.UpdateTriggersResponse:
        """Activate or deactivate triggers. Unknown names are ignored."""
        for name in request.names:
            trigger = self._triggers.get(_key(name))
            if trigger is not None and trigger.spec.active != request.active:
                trigger.spec.active = request.active
                trigger.id.revision += 1
                trigger.status.updated_at.CopyFrom(now())
        return pb.UpdateTriggersResponse()

    async def delete_triggers(
        self, request: pb.DeleteTriggersRequest, ctx: Context
    ) -> pb.DeleteTriggersResponse:
        """Delete triggers. Unknown names are ignored."""
        for name in request.names:
            self._triggers.pop(_key(name), None)
        return pb.DeleteTriggersResponse()


_Key = tuple[str, str, str, str]


def _key(name: identifier_pb2.TriggerName) -> _Key:
    return name.project, name.domain, name.task_name, name.name
