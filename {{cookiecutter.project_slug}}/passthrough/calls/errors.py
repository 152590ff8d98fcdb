"""The errors of calls to Flyte, and of the app's start."""

import flyte.errors
from connectrpc.code import Code
from connectrpc.errors import ConnectError


class StartError(SystemExit):
    """The app cannot start. The message says why and what to do, without a traceback."""


class NotForManyCallersError(RuntimeError):
    """This part of the SDK is unsafe with many callers. The message says what to use instead."""


class DeadlineExceededError(flyte.errors.RuntimeSystemError):
    """Flyte did not answer in time. No ``TimeoutError``: the SDK would subscribe again."""

    def __init__(self, method: str) -> None:
        super().__init__("DeadlineExceeded", "Flyte did not answer in time")
        self.method = method


class TooLargeError(ConnectError):
    """What Flyte has sent is beyond a limit: the answer is 413."""

    def __init__(self, text: str) -> None:
        super().__init__(Code.OUT_OF_RANGE, text)


class MessageTooLargeError(TooLargeError):
    """One message is too large by itself, so a part of it may be asked for."""


FLYTE_ERRORS = (ConnectError, flyte.errors.BaseRuntimeError, TimeoutError)  # of a failed call
