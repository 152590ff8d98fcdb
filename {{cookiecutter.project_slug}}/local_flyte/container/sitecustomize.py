"""Python runs this at the start of every process that replaces a container.

An editable install puts the source tree on `sys.path`. A container has none: code that was left out
of the bundle must not be importable by accident.
"""

import os
import sys

_here = os.path.dirname(__file__)  # noqa: PTH120
_installed = (sys.prefix, sys.base_prefix, _here)
sys.path[:] = [entry for entry in sys.path if entry.startswith(_installed)]
