"""Makes the app act as its callers. Don't edit it: updates of the template replace it.

``app/`` and ``deployment.py`` import only from here and, if agents are served, from
``passthrough.agents``. Behind it, ``http`` deals with requests, ``calls`` with calls to Flyte, and
``values`` with values; ``extras`` has what the SDK lacks.

The heart is 1,500 lines, to be read in this order: ``passthrough_auth.py``, ``http/middleware.py``,
``http/cancellation.py``, ``http/response.py``, ``calls/request_state.py``, ``calls/slots.py``,
``calls/interceptor.py``, ``calls/sessions.py``, ``calls/make_safe.py``. Values are
``calls/json_values.py`` and ``values/``. Look up the rest.

- The *caller* is the person, or the application, as whom a request calls Flyte.
- The *client* is the program that sends the request and may leave: a browser, a script, an agent.
- A *subject* is Flyte's identifier of a caller.

What one asks first:

- What needs no credentials? ``/health``, ``/docs``, ``/docs/*``, ``/openapi.json``,
  ``/.well-known/oauth-protected-resource/mcp``, and as ``app/main.py`` says, ``/`` and ``/page/*``.
  Such a request has no caller, and no limits of one.
- How does the app start, and stop? ``application.py``: `App.__call__`, and `Protocol.shutdown`,
  which ends streams at once and other requests after ten seconds (`Cancellation`). `App.openapi`
  there adds to the API's document which operations need credentials.
- Where is a request refused? In ``http/middleware.py``, which lists all places in order.
- Where is the deadline of a request? `Deadline`, in ``calls/request_state.py``: the response begins
  within twice ``FLYTE_TIMEOUT``, or within the `deadline` of its endpoint. Otherwise the endpoint
  and its calls are cancelled, and the response is a 504.
- Where is a disconnect noticed? In ``http/cancellation.py``; the endpoint and its calls end, too.
- How does a watch end? ``extras/watching.py``: with its request; two seconds after the last news
  once the run's root action has ended; and, if it is of one action, with that action.
- Where are headers added? In ``http/headers.py``; a developer adds some by ``App(headers={…})``.
- Which places respond with 413 or 422? ``limits.py`` lists them. Codes: ``http/problems.py``.
- What bounds the memory? ``calls/slots.py``: one request at a time may hold a large message.
- What changes the SDK? ``calls/make_safe.py``; ``docs/flyte-remote.md`` says what is different.
- What proves that callers never mix? ``test_concurrent_callers_are_never_mixed_up``, in
  ``local_flyte/guarantees.py``.
- Where does a call to Flyte become the caller's? In ``calls/interceptor.py``, with the credentials
  that ``passthrough_auth.py`` has put into ``flyte.remote.auth_metadata``.
- How does JSON become a literal? ``Converter`` in ``values/inputs.py`` makes it, by the schema that
  forms have, too (``values/schemas.py``). ``flyte.run`` of a registered task calls it through
  ``calls/json_values.py``.
- Where do I add an endpoint? In ``app/routers``: the README shows how.
"""

import typing
import warnings

__version__ = "3.0.0"

# The app, its settings and its middleware
from .application import UVICORN, App, connect, load_settings, validate_env
from .settings import Settings, setting, CredentialHeader, Name
from .limits import Limits
from .http.forwarding import ProjectDomain, passthrough_middleware
from .http.logging_setup import LogFormatter
from .http.public import PageFiles

# What endpoints take
from .dependencies import CallerDep, SubjectDep
from .http.callers import find_caller
from .dependencies import deadline, ActionDep, RunDep, TaskDep
from .dependencies import Inputs, QueryTime, RequestBody, WaitQuery, schema_of

# What they return
from .models import Action, Caller, Condition, Identity, TruncatedText
from .models import (
    ANSWER_TYPES,
    FAILED,
    HAS_OUTPUTS,
    answer_of,
    is_answered,
    location,
    phase_of,
    time_of,
)

# What the SDK lacks
from .extras.reading import NEWEST_FIRST, fetch_data, fetch_details, listed_details, state_of, take
from .extras.reading import fetch_condition, fetch_conditions, fetch_paused_actions
from .extras.reading import fetch_paused_runs, fetch_report_url
from .extras.watching import best_effort, wait_for, wait_for_answer, watch_details, watch_run
from .extras.following import LOG_ID, follow_log

# To call other apps
from .calls.sdk import callers_credentials

OLD_NAMES = {
    "conditions_of": "fetch_conditions",
    "data_of": "fetch_data",
    "details_of": "fetch_details",
    "paused_actions": "fetch_paused_actions",
    "question": "fetch_condition",
    "report_address": "fetch_report_url",
    "runs_that_ask": "fetch_paused_runs",
    "validated": "validate_env",
}
"""Names of version 3 with their new names. The next major version removes them."""

if not typing.TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        """Return an export by its old name, with a warning."""
        if name not in OLD_NAMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        new = OLD_NAMES[name]
        text = f"passthrough.{name} has been renamed: import {new} from passthrough instead"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return globals()[new]
