"""Python runs this at the start of every process that replaces a container.

An editable install puts the source tree on `sys.path`, or an import hook for it on `sys.meta_path`.
A container has neither: code that was left out of the bundle must not be importable by accident.
"""

import os
import sys

_here = os.path.dirname(__file__)  # noqa: PTH120
_installed = (sys.prefix, sys.base_prefix, _here)
sys.path[:] = [entry for entry in sys.path if entry.startswith(_installed)]
sys.meta_path[:] = [
    hook for hook in sys.meta_path if not getattr(hook, "__module__", "").startswith("__editable__")
]
