"""The former name of ``guarantees.py``, for ``tests/test_promises.py`` of existing projects.

It will be removed in version 5.
"""

import warnings

from .guarantees import *  # noqa: F403 - the tests

with warnings.catch_warnings():
    warnings.simplefilter(
        "default"
    )  # pytest shows it, even if the project turns warnings into errors
    warnings.warn(
        "local_flyte.promises has a new name: move your EXAMPLES to tests/test_guarantees.py,"
        " and delete tests/test_promises.py",
        DeprecationWarning,
        stacklevel=2,
    )
