"""A task fetched for one caller is served to the next.

`remote.Task.get` returns an object that caches the fetched task. If the object is defined at module
level, the natural place, all callers get the task that the first caller was allowed to see.

Severity: High, since 2.3.9 or older.

Patch: `remote/_task.py`, `LazyEntity.fetch`: cache by `get_auth_metadata()`, or not at all if
there is any.
"""

from flyte import remote
from harness import BOB, plane

task = remote.Task.get("t", auto_version="latest")
task.fetch()
plane.calls.clear()
with remote.auth_metadata(BOB):
    assert task.fetch().name == "t"
assert plane.calls == []
