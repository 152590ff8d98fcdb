"""Uncaught exceptions are printed to standard output.

`sys.excepthook` is replaced by one that prints to standard output: a pipe receives a traceback
as data, and standard error is empty.

Severity: Low, since 2.3.9 or older.

Patch: `_excepthook.py`: print to standard error; install the hook in the command line only.
"""

import subprocess
import sys

import harness

done = subprocess.run([sys.executable, "-c", "import flyte; 1 / 0"], capture_output=True, text=True)
assert "ZeroDivisionError" in done.stdout
assert "ZeroDivisionError" not in done.stderr
