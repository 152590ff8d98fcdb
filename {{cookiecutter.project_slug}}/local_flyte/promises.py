"""The former name of ``guarantees.py``, for ``tests/test_promises.py`` of existing projects.

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
