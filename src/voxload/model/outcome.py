"""The ways in which a call can end: each call ends in exactly one."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How a call ended."""

    COMPLETED = "completed"
    """The script ran to its end and the caller hung up."""
    CONNECT_FAILED = "connect_failed"
    """No connection: refused, reset, unknown host, TLS failure."""
    REJECTED = "rejected"
    """The target answered and said no: an HTTP error or a refused handshake."""
    SETUP_TIMEOUT = "setup_timeout"
    """The call was not ready within the set-up time-out."""
    AGENT_SILENT = "agent_silent"
    """The agent owed a reply and none was heard within the reply time-out."""
    DROPPED_BY_TARGET = "dropped_by_target"
    """The target closed or lost the connection in the middle of the call."""
    PROTOCOL_ERROR = "protocol_error"
    """The target sent what the protocol does not allow: garbage, a flood, an answer without a session."""
    TIMEOUT = "timeout"
    """Component test: a step was not done in time."""
    STEP_FAILED = "step_failed"
    """Component test: the service took the request and then reported that it failed."""
    SHED = "shed"
    """The generator could not start the call: counted apart, never held against the target."""
    CANCELLED = "cancelled"
    """The run was cut short while the call was up."""
    INTERNAL_ERROR = "internal_error"
    """A defect of voxload itself."""


NOT_ATTEMPTED = frozenset({Outcome.SHED, Outcome.CANCELLED, Outcome.INTERNAL_ERROR})
"""Outcomes that say nothing of the target: left out of `call_success`."""
