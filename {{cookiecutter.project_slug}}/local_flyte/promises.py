"""This module has the names of ``guarantees.py`` for old projects with ``tests/test_promises.py``.

Version 5 will remove this module.
"""

import warnings

from .guarantees import *  # noqa: F403 - the tests

warnings.warn(
    "local_flyte.promises has been renamed: move your EXAMPLES to tests/test_guarantees.py, and"
    " delete tests/test_promises.py",
    DeprecationWarning,
    stacklevel=2,
)
