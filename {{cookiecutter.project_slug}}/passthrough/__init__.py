"""Makes the app act as its callers. Don't edit it: updates of the template replace it.

``app/`` and ``deployment.py`` import all they need from here, and ``passthrough.agents``, which can
be taken out. Behind it, ``http`` is what happens to a request, ``calls`` to a call to Flyte, and
``values`` to a value; ``extras`` has what the SDK lacks; ``agents`` makes tools of endpoints.

The package knows of ``app/`` only the name ``app.main:app``, to pickle it.
"""

from .acting_as import acting_as
from .application import App
from .calls.other_apps import call_app
from .dependencies import (
    ActionDep,
    ActionStateDep,
    CallerDep,
    Inputs,
    ProjectDomain,
    QueryTime,
    RequestBody,
    RunDep,
    RunStateDep,
    SubjectDep,
    TaskDep,
    WaitQuery,
    schema_of,
)
from .extras.action_log import LOG_ID, follow_log
from .extras.lists import call_each, details_of, skip_unreadable, take
from .extras.runs import NEWEST_FIRST, conditions_of, paused_in, report_address, runs_that_ask
from .extras.waiting import best_effort, wait_for, wait_for_answer
from .extras.watching import watch_details, watch_run
from .http.credentials import passthrough_middleware
from .http.headers import HEADERS
from .http.logging_setup import LogFormatter
from .http.uvicorn_options import COMMAND_LINE, UVICORN
from .limits import Limits
from .models import (
    FAILED,
    Action,
    Caller,
    Condition,
    Identity,
    NameOfPerson,
    Timestamp,
    TruncatedText,
    WholeCondition,
    answer_of,
    is_answered,
    location,
    phase_of,
    time_of,
)
from .page_files import PageFiles
from .settings import (
    CredentialHeader,
    Name,
    Settings,
    connect,
    load_settings,
    names,
    setting,
    validated,
)

__all__ = [  # noqa: RUF022 - by what they are for
    # The app, its settings and its middleware
    "App",
    "Settings",
    "setting",
    "names",
    "CredentialHeader",
    "Name",
    "load_settings",
    "validated",
    "connect",
    "passthrough_middleware",
    "HEADERS",
    "LogFormatter",
    "PageFiles",
    "UVICORN",
    "COMMAND_LINE",
    # What endpoints take
    "ProjectDomain",
    "CallerDep",
    "SubjectDep",
    "RunDep",
    "RunStateDep",
    "ActionDep",
    "ActionStateDep",
    "TaskDep",
    "WaitQuery",
    "QueryTime",
    "RequestBody",
    "Inputs",
    "schema_of",
    # What they return
    "Caller",
    "Identity",
    "Action",
    "Condition",
    "WholeCondition",
    "TruncatedText",
    "NameOfPerson",
    "Timestamp",
    "Limits",
    "FAILED",
    "location",
    "phase_of",
    "time_of",
    "answer_of",
    "is_answered",
    # What the SDK lacks
    "NEWEST_FIRST",
    "take",
    "call_each",
    "details_of",
    "skip_unreadable",
    "wait_for",
    "wait_for_answer",
    "best_effort",
    "watch_run",
    "watch_details",
    "LOG_ID",
    "follow_log",
    "conditions_of",
    "paused_in",
    "runs_that_ask",
    "report_address",
    # Calls to Flyte outside of requests, and to other apps
    "acting_as",
    "call_app",
]
