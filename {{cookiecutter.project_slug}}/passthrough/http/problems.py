"""Converts errors to problem responses (RFC 9457).

Endpoints do not catch exceptions of the SDK, because this module converts all exceptions. This
module logs each exception once, except exceptions that the caller has caused. A 500 is a bug of the
app, a 502 or 503 is a fault of Flyte, and a 504 means that the deadline has passed (`Deadline`).
The page docs/limits.md describes the causes of 413, 422, 429 and 431.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from http.client import responses
from typing import Annotated, Any, Literal

import flyte.errors
import httpx
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, Field
from starlette._utils import get_route_path
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

from ..calls.redaction import MAX_ERROR_CHARS, redact
from ..calls.request_state import this_request
from ..calls.sdk import FLYTE_ERRORS, DeadlineExceededError, TooLargeError
from ..values.inputs import InvalidInputs
from .cancellation import StoppingError

logger = logging.getLogger(__name__)
MAX_ERRORS = 100  # maximum number of invalid values in one response

STATUS_OF_CODE = {
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.FAILED_PRECONDITION: 409,
    Code.INVALID_ARGUMENT: 400,  # an error of the caller or of the app
    Code.OUT_OF_RANGE: 400,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
"""Maps error codes of Flyte to statuses. Any other code has the status 502, a fault of Flyte."""

STATUS_OF_SDK_ERROR = {
    "DeadlineExceeded": 504,
    "InvalidArgumentError": 400,  # CreateRun has refused an argument
    "LogsNotYetAvailable": 404,
    "RemoteTaskNotFoundError": 404,
    "RunAlreadyExistsError": 409,
}
"""Maps the ``code`` of an SDK error to a status. For any other code, the status is 502."""


TooLarge = Literal["body_too_large", "message_too_large", "response_too_large", "outputs_too_large"]
Invalid = Literal["invalid_request", "invalid_inputs"]
ProblemCode = Literal[TooLarge, Invalid, "too_many_requests", "stopping", "deadline", "flyte"]
CODES: dict[ProblemCode, str] = {
    "body_too_large": "413: the request's body",
    "message_too_large": "413: one message from Flyte",
    "response_too_large": "413: all that Flyte sent for the request",
    "outputs_too_large": "413: inputs and outputs above Flyte's own limit",
    "invalid_request": "422: values of the request",
    "invalid_inputs": "422: inputs of the task",
    "too_many_requests": "429: the caller has too many open requests",
    "stopping": "503: this replica stops",
    "deadline": "504: the response did not begin in time",
    "flyte": "any status: Flyte refused or failed",
}
"""The codes of problem responses, for statuses with several causes. A code is never renamed."""
RETRY_AFTER = "5"  # seconds


class CodedError(HTTPException):
    """A refusal with a code, which distinguishes it from other refusals with the same status."""

    def __init__(self, status: int, code: ProblemCode, detail: str) -> None:
        super().__init__(status, detail)
        self.code = code


SafeText = Annotated[str, AfterValidator(lambda text: redact(text, MAX_ERROR_CHARS))]
"""A text for a problem response, without credentials and with at most `MAX_ERROR_CHARS`."""


class InvalidValue(BaseModel):
    """An invalid value in the request."""

    location: list[int | SafeText] = Field(examples=[["inputs", "name"]])
    detail: SafeText = Field(examples=["Field required"])


class Problem(BaseModel):
    """A problem as defined by RFC 9457, sent as ``application/problem+json``."""

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    code: ProblemCode | None = Field(
        default=None,
        description="The cause, if the status has several. "
        + "; ".join(f"`{code}`: {text}" for code, text in CODES.items()),
    )
    detail: SafeText | None = None
    errors: list[InvalidValue] | None = None
    sign_in: str | None = Field(default=None, description="The URL to sign in. Only a 401 has it.")
    refused_by: Literal["flyte"] | None = Field(
        default=None, description="`flyte` if Flyte, not this app, has refused with 403."
    )

    @classmethod
    def of_exception(cls, error: BaseException) -> "Problem":
        """Return the problem (RFC 9457) for an exception from Flyte, FastAPI or Python."""
        status, detail, invalid = 500, None, list[tuple[Iterable[Any], str]]()
        code: ProblemCode | None = None
        match error:  # subclasses come before base classes, because the first match counts
            case InvalidInputs():
                status, detail = 422, "the task cannot be run with these inputs"
                code = "invalid_inputs"
                invalid = [(("inputs", *place), text) for place, text in error.errors]
            case RequestValidationError():
                status, detail = 422, "the request contains invalid values"
                code = "invalid_request"
                invalid = [(entry["loc"], entry["msg"]) for entry in error.errors()]
            case TooLargeError():
                status, detail, code = 413, error.message, error.problem_code
            case ConnectError():
                status, detail = STATUS_OF_CODE.get(error.code, 502), error.message
                code = "flyte"
            case HTTPException():
                status, detail = error.status_code, error.detail
                code = error.code if isinstance(error, CodedError) else None
                if detail == "Content Too Large":  # raised by Starlette
                    detail, code = "the body of the request is too large", "body_too_large"
                if not isinstance(detail, str):
                    detail = json.dumps(detail, default=str)
            case (
                BaseException(__cause__=ConnectError() | DeadlineExceededError() as cause)
                # Starlette wraps an HTTPException if the response has begun.
                | RuntimeError(__cause__=HTTPException() | RequestValidationError() as cause)
            ):
                return cls.of_exception(cause)
            case flyte.errors.BaseRuntimeError():
                status, detail = STATUS_OF_SDK_ERROR.get(error.code, 502), str(error)
                code = "flyte"
                # If the app calls the SDK without a project, the error message contains None.
                detail = detail.replace(" in project None, domain None", "")
            case httpx.TransportError():  # for example, an upload to the object store failed
                status = 502
            case TimeoutError():
                status, detail, code = 504, "this took too long", "deadline"
            case StoppingError():
                # The detail does not advise the client to repeat the request, because the request
                # may have started a run.
                status, detail, code = 503, "this replica stops", "stopping"
        title = responses.get(status, "Error")  # the title for about:blank (RFC 9457 4.2.1)
        errors = invalid[:MAX_ERRORS]
        return cls(
            title=title,
            status=status,
            code=code,
            detail=None if detail == title else detail,
            errors=[InvalidValue(location=[*place], detail=text) for place, text in errors] or None,
            refused_by="flyte" if status == 403 and isinstance(error, ConnectError) else None,
        )

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """Return a response with this problem."""
        # Use ASCII, because a problem may contain lone surrogates, which UTF-8 cannot encode.
        text = json.dumps(self.model_dump(exclude_none=True))
        return Response(text, self.status, headers, "application/problem+json")


def logged_problem(connection: HTTPConnection, error: BaseException) -> Problem:
    """Return the problem for an error, and log the error unless the caller has caused it.

    If the status is 500, 501, 502 or 503, the problem does not contain the message of the error,
    because the message may describe internals of the app or of Flyte. Only the detail of an
    HTTPException is sent, because developers write it for clients. A `StoppingError` is not logged,
    because it is not a fault.
    """
    problem = Problem.of_exception(error)
    if problem.status >= 500 or (problem.status == 400 and isinstance(error, FLYTE_ERRORS)):
        _log(connection, error, problem)
    is_written_for_callers = isinstance(error, HTTPException | StoppingError)
    if problem.status in {500, 501, 502, 503} and not is_written_for_callers:
        problem.detail = None
    if problem.status == 401:
        problem.sign_in = this_request().settings.sign_in_url
    if problem.status in {503, 504} and (run := this_request().run):
        problem.detail = f"{problem.detail or problem.title}; the run {run} goes on"
    return problem


def problem_response(connection: HTTPConnection, error: BaseException) -> Response:
    """Return the response for an exception."""
    # Send the headers of an HTTPException. Do not send the headers of an error of an HTTP client,
    # because they belong to the response of another server.
    headers = MutableHeaders(error.headers if isinstance(error, HTTPException) else None)
    problem = logged_problem(connection, error)
    if problem.status == 401:  # a 401 must have WWW-Authenticate (RFC 9110 11.6.1)
        headers.setdefault("www-authenticate", "Bearer")
        challenges = getattr(connection.scope.get("app"), "challenges", {})
        if challenge := challenges.get(get_route_path(connection.scope)):
            headers["www-authenticate"] = challenge(connection)
    if problem.status in {429, 503, 504}:
        headers.setdefault("retry-after", RETRY_AFTER)
    return problem.response(headers)


async def respond(connection: Any, error: Exception) -> Response:
    """Return the response for an exception of Starlette or FastAPI, such as a 404 or a 422."""
    return problem_response(connection, error)


def _log(connection: HTTPConnection, error: BaseException, problem: Problem) -> None:
    """Log one record, with the traceback if the error is a bug of the app."""
    if isinstance(error, StoppingError):
        return
    name, text = type(error).__name__, f": {problem.detail!r}" if problem.detail else ""
    for cause in (error, error.__cause__):
        if isinstance(cause, ConnectError):
            name = cause.code.name
        if method := getattr(cause, "method", None):  # set by `with_safe_errors`
            name += f" from {method}"
            break
    request, bug = f"{connection.scope['method']} {route_of(connection.scope)}", None
    if problem.status == 500:
        text, bug = "", error
    text += f", request {this_request().request_id}"
    logger.error("%s: status %d, %s%s", request, problem.status, name, text, exc_info=bug)


def route_of(scope: Scope) -> str:
    """Return the path of the route, such as ``/runs/{name}``.

    The log contains the path of the route, because the path of a request may contain a token.
    """
    route = scope.get("route")  # a mount has no `path_format`
    return getattr(route, "path_format", None) or getattr(route, "path", None) or "-"
