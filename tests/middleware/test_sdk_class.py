"""What leaks with the SDK's class: once it passes the tests named here, you may use it again.

    python -m pytest tests/middleware/test_sdk_class.py

runs them with the SDK's class. A failure is good news: the SDK has been fixed.
"""

import os
import re
import subprocess
import sys

import pytest

from .harness import TEMPLATE

pytestmark = [pytest.mark.slow, pytest.mark.weekly]

# The next request on a connection runs as the previous caller.
FINDINGS = ["test_next_request_has_no_credentials_after_upload"]
# Clean-up after one caller's stream calls Flyte as another caller.
FINDINGS += ["test_abandoned_generator_closes_without_credentials"]
# Every WebSocket passes, without credentials.
FINDINGS += ["test_websocket_without_credentials_is_refused_in_handshake"]
# A string of excluded paths is searched.
FINDINGS += ["test_excluded_paths_string_is_one_path"]
# A page of another site may use a cookie.
FINDINGS += ["test_only_safe_methods_are_allowed_cross_site"]
# A cache may serve the answer to a cookie to somebody else.
FINDINGS += ["test_responses_vary_on_cookie"]
# What an extractor raises is logged.
FINDINGS += ["test_failed_extractor_is_logged_without_message"]
# Of two Authorization headers, one wins; values change, or cannot be sent.
FINDINGS += ["test_credentials_are_forwarded_unchanged"]


def test_sdk_class_fails_known_tests() -> None:
    suite = ["-q", "--tb=no", "-pno:cacheprovider", "tests/middleware", "-k", " or ".join(FINDINGS)]
    # What one test has abandoned makes no other fail.
    suite += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    said = subprocess.run(
        [sys.executable, "-m", "pytest", *suite],
        cwd=TEMPLATE,
        env=os.environ | {"PASSTHROUGH_AUTH_CLASS": "sdk"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    ).stdout
    assert {*re.findall(r"^FAILED .+?::(\w+)", said, re.MULTILINE)} == {*FINDINGS}
