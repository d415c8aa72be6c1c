"""What the exchange answers to a request that it refuses."""

from __future__ import annotations

CALL_NOT_FOUND = "8522"
NOT_ESTABLISHED = "8501"


class ApiError(Exception):
    """A REST request is refused with `status` and an error body as Azure writes it."""

    def __init__(self, status: int, code: str, message: str, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


def bad_request(message: str) -> ApiError:
    """Return the refusal of a request that makes no sense."""
    return ApiError(400, "BadRequest", message)


def call_not_found() -> ApiError:
    """Return the refusal of a request for a call that there is not."""
    return ApiError(404, CALL_NOT_FOUND, "Call not found.")
