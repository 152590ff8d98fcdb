"""Runs tests that the SDK's class fails, to notice when the SDK is fixed.

    python -m pytest tests/middleware/test_sdk_class.py

If this test fails, the SDK's class passes a test of the list. If it passes all, use it again.
"""

import os
import re
import subprocess
import sys

import pytest

from .harness import TEMPLATE

pytestmark = [pytest.mark.slow, pytest.mark.weekly]

# The next request on a connection runs as the previous caller.
FINDINGS = ["test_request_after_upload_on_connection_has_no_credentials"]
# Clean-up after one caller's stream calls Flyte as another caller.
FINDINGS += ["test_abandoned_generator_closes_without_credentials"]
# Every WebSocket passes, without credentials.
FINDINGS += ["test_websocket_without_credentials_is_refused_in_handshake"]
# A string of excluded paths is searched for the path.
FINDINGS += ["test_excluded_paths_string_is_single_path"]
# Cross-site requests may use cookies.
FINDINGS += ["test_only_safe_methods_are_allowed_cross_site"]
# A cache may serve a response for one cookie to other users.
FINDINGS += ["test_responses_vary_on_cookie"]
# Error messages of extractors are logged.
FINDINGS += ["test_failed_extractor_is_logged_without_exception_message"]
# One of two Authorization headers wins; values change, or cannot be sent.
FINDINGS += ["test_credentials_are_forwarded_unchanged"]


def test_sdk_middleware_fails_exactly_the_tests_in_findings() -> None:
    suite = ["-q", "--tb=no", "-pno:cacheprovider", "tests/middleware", "-k", " or ".join(FINDINGS)]
    # Generators that one test abandons must not fail other tests.
    suite += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    output = subprocess.run(
        [sys.executable, "-m", "pytest", *suite],
        cwd=TEMPLATE,
        env=os.environ | {"PASSTHROUGH_AUTH_CLASS": "sdk"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    ).stdout
    assert {*re.findall(r"^FAILED .+?::(\w+)", output, re.MULTILINE)} == {*FINDINGS}
