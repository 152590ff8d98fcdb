"""This package makes the app call Flyte as the caller of each request.

Do not edit this package, because updates of the template replace it. ``app/`` and ``deployment.py``
import names only from this module and, if the app serves agents, from ``passthrough.agents``.

The package has four parts. ``http`` handles requests, ``calls`` handles calls to Flyte, ``values``
converts inputs and outputs, and ``extras`` has functions that the SDK lacks.

To understand the package, read these files in this order: ``passthrough_auth.py``,
``http/middleware.py``, ``http/cancellation.py``, ``http/response.py``, ``calls/request_state.py``,
``calls/slots.py``, ``calls/interceptor.py``, ``calls/sessions.py``, ``calls/make_safe.py``. These
files have 1,900 lines. ``calls/json_values.py`` and ``values/`` convert inputs and outputs.

Three terms are used in all files:

- The *caller* is a user or an application. A request calls Flyte with the caller's credentials.
- The *client* is the program that sends the request, such as a browser, a script or an agent.
- A *subject* is the identifier of a caller in Flyte.

Frequent questions:

- Which paths need no authentication? The public paths are in ``PATHS`` in ``http/public.py``, in
  ``METADATA`` in ``agents/resource_metadata.py``, and in the argument ``public`` in
  ``app/main.py``, which contains ``PATHS`` of ``app/routers/page.py``. Requests to public paths
  have no caller, so they have no limit per caller.
- How does the app start and shut down? `App.__call__` in ``application.py`` starts the app. At a
  graceful shutdown, `Protocol.shutdown` in ``http/server.py`` ends event streams immediately, and
  other requests after ten seconds.
- Where is a request refused? ``http/middleware.py`` lists all middleware in order, with the
  statuses of refused requests. `App.build_middleware_stack` in ``application.py`` adds the
  middleware.
- Where does a call to Flyte get the credentials of the caller? ``passthrough_auth.py`` puts the
  credentials into ``flyte.remote.auth_metadata``, and ``calls/interceptor.py`` adds them to calls.
- Where is the deadline of a request? `Deadline` in ``calls/request_state.py`` implements
  deadlines. The response must begin within twice ``FLYTE_TIMEOUT``, or within the time that the
  endpoint sets with `deadline`. If a response is late, the app cancels the endpoint and the calls
  to Flyte, and responds with 504. While a body arrives, `Cancellation` extends the deadline.
- Who notices that the client has disconnected? `Protocol` in ``http/server.py`` notices the
  disconnect. Then `Cancellation` in ``http/cancellation.py`` cancels the endpoint and the calls to
  Flyte. ``http/response.py`` disconnects slow clients.
- When does a watch end? ``extras/watching.py`` ends each watch when the request ends. The watch of
  an action also ends when the action ends. The watch of a run also ends when the root action has
  ended and Flyte has sent no update for two seconds.
- Where are cross-site requests (CSRF) refused? `CallerMiddleware` in ``http/forwarding.py`` refuses
  a cross-site GET. Its base class in ``passthrough_auth.py`` refuses other cross-site requests.
- Where is the access log written? ``_log`` in ``http/middleware.py`` writes it.
  ``http/logging_setup.py`` formats all log records.
- Where are credentials redacted? ``calls/redaction.py`` removes credentials from errors and log
  records, and truncates error messages.
- What happens to list entries that are too large? ``calls/interceptor.py`` omits and counts them,
  and ``http/headers.py`` adds the header ``X-Omitted-Count``.
- Where are headers added to responses? ``http/headers.py`` adds the default headers. Developers add
  more headers with ``App(headers=…)``.
- How does an event stream resume after a disconnect? The endpoints in ``app/routers/streams.py``
  continue after the event that the client names in ``Last-Event-ID``. ``extras/watching.py``
  reopens an interrupted watch of Flyte.
- Where is the size of a body limited? ``http/bodies.py`` limits the size to ``MAX_BODY_SIZE``. A
  route with ``max_body_size=…`` has its own limit, as in ``app/routers/files.py``.
- Which status does an error have? ``http/problems.py`` converts errors to responses. ``limits.py``
  lists the causes of 413 and 422.
- How is memory limited? ``calls/slots.py`` limits how many requests may hold a large message from
  Flyte, or a large JSON body, at the same time.
- Where is the SDK changed? ``calls/make_safe.py`` makes all changes, and ``calls/sdk.py`` lists all
  private names of the SDK. The page docs/flyte-remote.md shows the differences to developers.
- How does a JSON value become a literal? ``flyte.run`` calls ``calls/json_values.py``, which calls
  ``Converter`` in ``values/inputs.py``. ``values/schemas.py`` makes the JSON Schema of an input.
- Which test proves that requests never mix callers?
  ``test_concurrent_callers_are_never_mixed_up`` in ``local_flyte/guarantees.py`` proves this.
- Where do I add an endpoint? Add it in ``app/routers``, as the README shows.
"""

__version__ = "4.0.0"

# The app, its settings and its middleware
from .application import App, connect, load_settings, validate_env
from .settings import Settings, setting, CredentialHeader, Name
from .limits import Limits
from .http.forwarding import ProjectDomain, passthrough_middleware
from .http.logging_setup import LogFormatter
from .http.public import PageFiles
from .http.server import UVICORN

# Dependencies and parameters of endpoints
from .dependencies import CallerDep, SubjectDep
from .http.callers import find_caller
from .dependencies import deadline, ActionDep, RunDep, TaskDep
from .dependencies import Inputs, QueryTime, RequestBody, WaitQuery, schema_of

# Models and types of responses
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

# Functions that the SDK lacks
from .extras.reading import NEWEST_FIRST, fetch_data, fetch_details, listed_details, state_of, take
from .extras.reading import fetch_condition, fetch_conditions, fetch_paused_actions
from .extras.reading import fetch_paused_runs, fetch_report_url
from .extras.watching import best_effort, wait_for, wait_for_answer, watch_details, watch_run
from .extras.following import LOG_ID, follow_log

# Calls to other apps
from .calls.sdk import callers_credentials
