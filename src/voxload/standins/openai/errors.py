"""Refusals of the chat service, in its own words."""

from __future__ import annotations

from typing import Any, NamedTuple

from voxload.clock import NS_PER_MS, NS_PER_S


class Refusal(NamedTuple):
    """An answer that is none."""

    status: int
    error: dict[str, Any]
    headers: dict[str, str]


def unauthorized() -> Refusal:
    """Wrong key, or none."""
    message = (
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
        "active subscription and use a correct regional API endpoint for your resource."
    )
    return Refusal(401, {"code": "401", "message": message}, {})


def no_deployment(azure: bool, name: str) -> Refusal:
    """A deployment or model that does not exist."""
    if azure:
        message = (
            "The API deployment for this resource does not exist. If you created the deployment within the last 5 "
            "minutes, please wait a moment and try again."
        )
        return Refusal(404, {"code": "DeploymentNotFound", "message": message}, {})
    message = f"The model `{name}` does not exist or you do not have access to it."
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "model_not_found"}
    return Refusal(404, error, {})


def not_found() -> Refusal:
    """No such resource, such as a path of Azure's without api-version."""
    return Refusal(404, {"code": "404", "message": "Resource not found"}, {})


def bad_request(message: str, param: str | None = None) -> Refusal:
    """A body that cannot be understood."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return Refusal(400, error, {})


def rate_limited(what: str, wait_ns: int, azure: bool, version: str, deployment: str) -> Refusal:
    """Over the quota; `what` is `token` or `request`, `wait_ns` after which it is worth trying again."""
    seconds = max(1, -(-wait_ns // NS_PER_S))
    headers = {"retry-after": str(seconds), "retry-after-ms": str(-(-wait_ns // NS_PER_MS))}
    if azure:
        message = (
            f"Requests to the ChatCompletions_Create Operation under Azure OpenAI API version {version} have exceeded "
            f"{'token' if what == 'token' else 'call'} rate limit of your current OpenAI S0 pricing tier. "
            f"Please retry after {seconds} seconds."
        )
        return Refusal(429, {"code": "429", "message": message}, headers)
    kind = {"token": "tokens", "request": "requests"}[what]
    message = (
        f"Rate limit reached for {deployment} on {kind} per min. Please try again in {wait_ns / NS_PER_S:.3f}s. "
        "Visit https://platform.openai.com/account/rate-limits to learn more."
    )
    return Refusal(429, {"message": message, "type": kind, "param": None, "code": "rate_limit_exceeded"}, headers)


def filtered_prompt() -> Refusal:
    """The content filter has refused the prompt."""
    message = (
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please "
        "modify your prompt and retry. To learn more about our content filtering policies please read our "
        "documentation: https://go.microsoft.com/fwlink/?linkid=2198766"
    )
    inner = {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {
            **{name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual")},
            "violence": {"filtered": True, "severity": "medium"},
        },
    }
    error = {
        "message": message,
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": inner,
    }
    return Refusal(400, error, {})


def failed(status: int) -> Refusal:
    """The service itself has failed."""
    message = "The server had an error while processing your request. Sorry about that!"
    code = {408: "Timeout", 409: "Conflict", 503: "ServiceUnavailable"}.get(status, "InternalServerError")
    return Refusal(status, {"code": code, "message": message, "type": "server_error", "param": None}, {})
