"""Lists of Flyte's: filters that it refuses, and entries that are too large for one page."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from flyteidl2.common.list_pb2 import Filter

from .errors import MessageTooLargeError
from .request_calls import request_calls

logger = logging.getLogger(__name__)


async def list_in_parts(call: Callable[[], Awaitable[Any]], request: Any, answer: type) -> Any:
    """Ask for a page of a list, or for a smaller one if that is too large.

    What one person has stored must not hide a list from everybody: an entry that is too large alone
    is left out, which is logged. The response says how many were, in its header ``X-Left-Out``. The
    SDK asks for the rest of the list.

    Args:
        call: Asks Flyte with the request.
        request: A page's limit and token are in the request itself, or in its ``request``.
        answer: The class of Flyte's answer.

    Raises:
        MessageTooLargeError: An entry is too large, and Flyte's token does not tell how to go on
            after it.
        TooLargeError: All that the request has received is too large.
    """
    calls, page = request_calls(), getattr(request, "request", request)
    while True:
        try:
            return await call()
        except MessageTooLargeError:
            if page.limit > 1:
                page.limit //= 2
                continue
            if page.token.strip("0123456789"):
                raise
            if not calls.left_out:
                logger.warning("A list is shown without its entries that are too large")
            calls.left_out += 1
            rest = answer()
            getattr(rest, "projects", rest).token = str(int(page.token or 0) + 1)
            return rest


def correct_filters(filters: Iterable[Filter]) -> None:
    """Put filters of runs and actions right that the SDK writes as Flyte refuses them, in place.

    They are findings 24 and 26 in the template's ``docs/sdk-findings.md``: delete this function
    once the SDK has fixed both. Flyte calls the person who has started a run
    ``created_by_subject`` (24). A single phase is sent digit by digit, as ``["1", "0"]`` for
    "recovered" (26).
    """
    for condition in filters:
        if condition.field == "created_by":
            condition.field = "created_by_subject"
        if condition.field == "phase" and condition.function == Filter.EQUAL:
            condition.values[:] = ["".join(condition.values)]
