"""What went wrong, as RFC 9457 problem responses.

Endpoints let the SDK's exceptions pass; they are turned into responses here, without a stack
trace and without a credential.
"""

import http
import re
from typing import Any

import flyte.errors
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import FastAPI, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.status import WS_1011_INTERNAL_ERROR
from starlette.websockets import WebSocketState

STATUS_OF_CODE = {
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.FAILED_PRECONDITION: 409,
    Code.INVALID_ARGUMENT: 422,
    Code.OUT_OF_RANGE: 422,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
"""Statuses of the errors Flyte answers with; any other code is a fault of Flyte's: 502."""

STATUS_OF_SDK_ERROR = {
    "DataValidationError": 422,
    "InlineIOMaxBytesBreached": 413,
    "InvalidArgumentError": 422,
    "LogsNotYetAvailable": 404,
    "RemoteTaskNotFoundError": 404,
    "RunAlreadyExistsError": 409,
}
"""Statuses of the errors that the SDK words itself, by their ``code``."""


FLYTE_ERRORS = (ConnectError, flyte.errors.BaseRuntimeError, TimeoutError)
"""What a call to Flyte raises when it fails."""


class InvalidValue(BaseModel):
    """One value of the request that cannot be used."""

    location: list[str | int] = Field(examples=[["body", "inputs", "name"]])
    detail: str = Field(examples=["Field required"])


class Problem(BaseModel):
    """A problem as RFC 9457 describes it, sent as ``application/problem+json``."""

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str | None = None
    errors: list[InvalidValue] | None = None

    @classmethod
    def of_exception(cls, error: BaseException) -> "Problem":
        """Find the problem that an exception of Flyte's, FastAPI's or Python's stands for.

        Its title is the phrase of its status, as RFC 9457 4.2.1 has it for ``about:blank``.
        """
        status, detail, errors = 500, None, None
        match error:
            case ConnectError():
                status, detail = STATUS_OF_CODE.get(error.code, 502), error.message
            case BaseException(__cause__=ConnectError() as cause):
                return cls.of_exception(cause)
            case flyte.errors.InitializationError():
                status = 503
            case flyte.errors.BaseRuntimeError():
                status, detail = STATUS_OF_SDK_ERROR.get(error.code, 502), str(error)
            case TimeoutError():
                status, detail = 504, "Flyte did not answer in time"
            case RequestValidationError():
                status, detail = 422, "the request holds values that cannot be used"
                errors = [InvalidValue(location=e["loc"], detail=e["msg"]) for e in error.errors()]
            case HTTPException():
                status, detail = error.status_code, error.detail
        title = http.HTTPStatus(status).phrase
        return cls(
            title=title, status=status, detail=None if detail == title else detail, errors=errors
        )

    def response(self) -> JSONResponse:
        """Make the response; a 401 says how to authenticate, as RFC 9110 11.6.1 asks."""
        headers = {"Cache-Control": "no-store"}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(
            self.model_dump(exclude_none=True),
            status_code=self.status,
            media_type="application/problem+json",
            headers=headers,
        )


PROBLEM_SCHEMA = Problem.model_json_schema()


def problem_for(connection: HTTPConnection, error: Exception) -> Problem:
    """Find the problem to tell the caller about: `Problem.of_exception`, fit to be told.

    What Flyte says of a caller's mistake helps the caller; what it says of its own faults is for
    its operators, and nothing that quotes a header of the request (a token, say) is repeated.
    """
    problem = Problem.of_exception(error)
    told = problem.detail or ""
    words = (word for value in connection.headers.values() for word in re.split(r"[\s;=]", value))
    if problem.status in {500, 501, 502, 503} or any(len(w) > 7 and w in told for w in words):
        problem.detail = None
    return problem


async def _respond(connection: Any, error: Exception) -> Any:  # a response, but to a WebSocket
    problem = problem_for(connection, error)
    if not isinstance(connection, WebSocket):
        return problem.response()
    if connection.client_state is WebSocketState.CONNECTING:
        await connection.send_denial_response(problem.response())
    elif connection.application_state is WebSocketState.CONNECTED:
        await connection.close(WS_1011_INTERNAL_ERROR, reason=problem.title)
    return None


def add_problem_responses(app: FastAPI) -> None:
    """Answer every failed request of the app, and every refused WebSocket, with a problem."""
    for kind in (*FLYTE_ERRORS, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _respond)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe problem responses of these statuses for OpenAPI (``responses=``)."""
    return {
        status: {
            "description": http.HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": PROBLEM_SCHEMA}},
        }
        for status in statuses
    }
