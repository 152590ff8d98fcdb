"""Filters of runs and actions that the SDK writes in a way that Flyte refuses.

They are findings 24 and 26 in the template's ``docs/sdk-findings.md``: delete this file once the
SDK has fixed both.
"""

from collections.abc import Iterable

from flyteidl2.common.list_pb2 import Filter


def correct_filters(filters: Iterable[Filter]) -> None:
    """Put filters right, in place.

    Flyte calls the person who has started a run ``created_by_subject`` (24). A single phase is sent
    digit by digit, as ``["1", "0"]`` for "recovered" (26).
    """
    for condition in filters:
        if condition.field == "created_by":
            condition.field = "created_by_subject"
        if condition.field == "phase" and condition.function == Filter.EQUAL:
            condition.values[:] = ["".join(condition.values)]
