r"""A log line gets a blank, and loses `\r`.

`get_logs` turns each line into a `rich.text.Text`, which drops `\r` and other control
characters, takes 0.1 s for a million characters beyond ASCII, and starts the line with a space
in place of the time.

Severity: Low, tried with 2.12.1.

Patch: `remote/_logs.py`: let `get_logs` yield `logline.message`, after the time if `show_ts` is
set; use `Text` only in the viewer.
"""

from flyte import remote
from harness import plane

plane.log = ["10 %\r20 %"]
assert list(remote.Run.get("r").get_logs()) == [" 10 %20 %"]
