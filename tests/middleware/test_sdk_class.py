"""What the SDK's class gets wrong: once nothing here matters to you, use it instead of ours.

    python -m pytest tests/middleware/test_sdk_class.py

runs the other tests with the SDK's class. A failure is good news: the SDK has been fixed.
"""

import os
import re
import subprocess
import sys

import pytest

from .harness import TEMPLATE

pytestmark = [pytest.mark.slow, pytest.mark.weekly]

FINDINGS = {
    "the next request on a connection runs as the previous caller": """
        test_after_a_large_upload_the_next_request_has_no_credentials
        test_the_server_callables_never_run_with_the_callers_credentials
        test_the_credentials_are_back_after_a_server_callable_raised""",
    "clean-up after one caller's stream calls Flyte as another caller": """
        test_clean_up_after_an_abandoned_stream_has_no_credentials
        test_copies_of_the_file_in_one_process_share_one_hook""",
    "every WebSocket passes, without credentials": """
        test_a_websocket_is_refused_in_the_handshake
        test_an_accepted_websocket_has_its_callers_credentials
        test_without_credentials_only_excluded_paths_are_served""",
    "a cookie is taken from any site; there is no option for it": """
        test_an_unsafe_request_from_another_site_cannot_use_ambient_credentials
        test_own_and_trusted_pages_and_other_clients_may_use_all_credentials
        test_a_bearer_token_that_an_extractor_makes_will_not_do
        test_every_method_but_the_safe_ones_is_unsafe
        test_an_invalid_origin_is_refused_at_construction""",
    "preflights are refused": """
        test_a_preflight_passes_to_cors_middleware_inside_without_credentials""",
    "of two Authorization or Cookie headers, one wins; values change or cannot be sent": """
        test_credentials_are_forwarded_as_they_came
        test_credentials_that_are_refused_are_not_shown
        test_a_repeated_custom_header_is_joined_as_any_recipient_may""",
    "there is nothing for cookies, refusals, optional credentials and calls elsewhere": """
        test_only_the_chosen_cookies_are_forwarded
        test_optional_credentials_are_checked_where_there_are_some
        test_an_owners_handler_answers_every_refusal
        test_an_owners_handler_denies_websockets_where_the_server_can
        test_credentials_are_those_that_a_request_would_be_served_with""",
    "a cache may serve the answer to a cookie to somebody else": """
        test_answers_to_cookies_vary_on_cookie
        test_a_subclass_may_override_dispatch""",
    "whatever an extractor returns is a credential; what it raises is logged, or is a 500": """
        test_an_async_extractor_is_refused_at_construction
        test_only_pairs_of_a_settable_name_and_a_value_are_credentials
        test_a_later_result_with_the_same_key_wins
        test_framing_and_hop_by_hop_names_are_no_custom_headers
        test_a_raising_extractor_is_logged_by_name_and_type_only""",
    "a string of excluded paths is searched, an empty set is replaced, URLs must be UTF-8": """
        test_a_string_of_excluded_paths_is_one_path
        test_a_path_excluded_later_counts
        test_a_query_string_that_is_not_utf_8_does_not_fail""",
    "messages and context variables do not pass unchanged": """
        test_messages_and_context_variables_pass_unchanged""",
}
"""What the SDK's class does, and the tests that it fails therefore, each for at least one case."""
SOMETIMES = {"test_an_excluded_path_is_compared_whole_and_exact"}  # as Starlette's version decides


def test_the_sdks_class_fails_these_tests_and_no_others() -> None:
    suite = ["-q", "--tb=no", "-pno:cacheprovider", "tests/middleware"]
    # What one test has abandoned makes no other fail.
    suite += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    # Tests of our file, whatever the class.
    ours = [f"--ignore=tests/middleware/test_{name}.py" for name in ("sdk", "copied_alone", "wire")]
    said = subprocess.run(
        [sys.executable, "-m", "pytest", *suite, *ours],
        cwd=TEMPLATE,
        env=os.environ | {"PASSTHROUGH_AUTH_CLASS": "sdk"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    ).stdout
    failed = set(re.findall(r"^FAILED .+?::(\w+)", said, re.MULTILINE))
    assert failed - SOMETIMES == set(" ".join(FINDINGS.values()).split())
