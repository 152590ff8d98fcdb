"""The security guarantees, for every endpoint of the OpenAPI document, including yours.

The tests are in ``local_flyte/guarantees.py``. If an endpoint of yours needs more than the name of a
run or a task in the path, add an example to ``EXAMPLES``, with ``json``, ``params``, a file as
``content``, for a form ``data`` and ``files``, or a whole ``path``. ``status`` is acceptable, too.
``shared`` is the reason why callers may get each other's data from an endpoint.
"""

from typing import Any

from local_flyte.guarantees import *  # noqa: F403 - the tests

EXAMPLES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/tasks/{name}/runs"): {"json": {"inputs": {"name": "Ada"}}},
    ("POST", "/runs/{name}/conditions/{action}"): {"json": {"value": True}},
    ("POST", "/files"): {"content": b"of a file"},
    ("GET", "/runs/{name}/report"): {"status": 404},
}
