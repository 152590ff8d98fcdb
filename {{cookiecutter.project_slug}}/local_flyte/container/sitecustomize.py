"""Python runs this module at the start of every process that replaces a container.

It removes the source tree, which an editable install adds, from `sys.path`. A real container has no
source tree, so code that is missing in the bundle must not be importable here.
"""

import os
import sys

_here = os.path.dirname(__file__)  # noqa: PTH120
_installed = (sys.prefix, sys.base_prefix, _here)
sys.path[:] = [entry for entry in sys.path if entry.startswith(_installed)]
