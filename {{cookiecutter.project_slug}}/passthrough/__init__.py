"""Makes the app act as its callers. Don't edit it: updates of the template replace it.

``app/`` and ``deployment.py`` import all they need from here, and ``passthrough.agents``, which can
be taken out. Behind it, ``http`` is what happens to a request, ``calls`` to a call to Flyte, and
``values`` to a value; ``extras`` has what the SDK lacks; ``agents`` makes tools of endpoints.

The package knows of ``app/`` only ``app.main:app``, to pickle it, and the names of some endpoints,
to point to them.
"""

# The app, its settings and its middleware
from .application import UVICORN, App
from .settings import Settings, setting, names, CredentialHeader, Name
from .settings import load_settings, validated, connect
from .limits import Limits
from .http.credentials import passthrough_middleware
from .http.logging_setup import LogFormatter
from .http.docs import PageFiles

# What endpoints take
from .dependencies import CallerDep, ProjectDomain, SubjectDep
from .dependencies import ActionDep, ActionStateDep, RunDep, RunStateDep, TaskDep
from .dependencies import Inputs, QueryTime, RequestBody, WaitQuery, schema_of

# What they return
from .models import Action, Caller, Condition, Identity, TruncatedText
from .models import FAILED, answer_of, is_answered, location, phase_of, time_of

# What the SDK lacks
from .extras.lists import call_each, details_of, take
from .extras.runs import NEWEST_FIRST, conditions_of, paused_actions, report_address, runs_that_ask
from .extras.watching import best_effort, wait_for, wait_for_answer, watch_details, watch_run
from .extras.action_log import LOG_ID, follow_log

# Calls to Flyte outside of requests, and to other apps
from .acting_as import acting_as
from .calls.other_apps import call_app
