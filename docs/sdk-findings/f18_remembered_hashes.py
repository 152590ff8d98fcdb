"""The hash of a file is cached by path.

If a file has changed since it was last hashed, `upload_file` sends the old hash. The upload is
refused, or stored in place of another caller's content: names of temporary files are reused.

Severity: Medium, tried with 2.12.1.

Patch: `remote/_data.py`, `hash_file`: no `lru_cache`, or one with the file's size and
modification time in its key.
"""

import contextlib
from pathlib import Path

import flyte
from flyte import remote
from harness import plane

for content in ("alice's", "bob's"):
    Path("upload").write_text(content)
    with contextlib.suppress(flyte.errors.RuntimeSystemError):  # this one takes no files
        remote.upload_file(Path("upload"))
first, second = plane.messages["CreateUploadLocation"]
assert first.content_md5 == second.content_md5
