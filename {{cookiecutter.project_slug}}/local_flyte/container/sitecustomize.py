"""Python runs this module at the start of every process that replaces a container.

An editable install adds the source tree to `sys.path`, and this module removes the source tree. A
real container has no source tree, so the process must not import code that the bundle lacks.
"""

import os
import sys

_here = os.path.dirname(__file__)  # noqa: PTH120
_installed = (sys.prefix, sys.base_prefix, _here)
sys.path[:] = [entry for entry in sys.path if entry.startswith(_installed)]
