"""Code uploaded for one caller is used for the next.

The cache of uploads is keyed by endpoint, project, domain and content. The next caller's run
uses the first caller's upload, and Flyte does not check whether the next caller may upload.

Severity: Medium, tried with 2.12.1.

Patch: `_code_bundle/bundle.py`, `build_code_bundle`: `skip_cache` in passthrough.
"""

from flyte import remote
from flyte._code_bundle.bundle import _read_bundle_cache, _write_bundle_cache
from harness import BOB

_write_bundle_cache("digest", "hash", "s3://bucket/alice")  # as after an upload
with remote.auth_metadata(BOB):
    assert _read_bundle_cache("digest") == ("hash", "s3://bucket/alice")
