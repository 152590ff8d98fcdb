"""The security guarantees, for every endpoint of the app, including yours.

The tests are in ``local_flyte/guarantees.py``. They execute every endpoint. If an endpoint of yours
needs more than the name of a run or a task in the path, add an example to ``EXAMPLES``:

- ``json``, ``params``, ``headers``, ``cookies``, a file as ``content``, or a form as ``data`` and
  ``files``. ``path`` contains the parameters of the path.
- ``"run": "running"`` if the run in the path must not have ended. A condition of it waits.
- ``status`` if only one status is right, such as 202.
- A value may be a function of an HTTP client of the user who sends the request. The function creates
  an object of this user, and returns the identifier. ``before`` is such a function without a result.
- ``only``: who may send the request, if the user needs a role. ``before`` gives the role.
- ``shared``: the reason why callers may get each other's data from the endpoint. For some fields of
  the response, ``shared`` is a dictionary from the name of the field to the reason.
- ``untested``: the reason why a test cannot execute the endpoint.
"""

from typing import Any

from local_flyte.guarantees import *  # noqa: F403 - the tests

EXAMPLES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/tasks/{name}/runs"): {"json": {"inputs": {"name": "Ada"}}},
    ("POST", "/runs/{name}/abort"): {"run": "running"},
    ("POST", "/runs/{name}/actions/{action}/abort"): {"run": "running"},
    ("POST", "/runs/{name}/conditions/{action}"): {"run": "running", "json": {"value": True}},
    ("POST", "/files"): {"content": b"of a file"},
}
