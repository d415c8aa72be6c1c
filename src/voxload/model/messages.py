"""Rules for side messages: what an agent's messages mean that are neither audio nor known to the dialect."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from voxload.model.base import Model
from voxload.model.json_path import compile_path, is_path
from voxload.model.outcome import Outcome

Scalar = bool | int | float | str | None

ACTIONS = ("transcript", "intent", "stage", "error", "outcome", "reply_ended", "interrupted", "usage", "ignore")
RULED_OUTCOMES = (
    Outcome.COMPLETED,
    Outcome.REJECTED,
    Outcome.AGENT_SILENT,
    Outcome.DROPPED_BY_TARGET,
    Outcome.PROTOCOL_ERROR,
)


def _checked_path(text: str) -> str:
    if not is_path(text):
        raise ValueError(f"{text!r} is not a JSONPath; it begins with $, as in $.payload.text")
    compile_path(text)
    return text


def _checked_value(text: str) -> str:
    if is_path(text):
        compile_path(text)
    return text


JsonPath = Annotated[str, AfterValidator(_checked_path)]
"""A JSONPath (RFC 9535) into the message."""
TextOrPath = Annotated[str, Field(min_length=1), AfterValidator(_checked_value)]
"""A text as it stands, or a JSONPath to it, which begins with `$`."""


class UsagePaths(Model):
    """Where a message tells what a reply has cost."""

    input_tokens: JsonPath
    output_tokens: JsonPath


class MessageRule(Model):
    """One rule: which messages it is for, and what they mean (one thing or several)."""

    when: str | dict[str, Scalar | tuple[Scalar, ...]] = Field(
        description="Values that the message must have, by field (`payload.kind`) or JSONPath; a list: one of them. "
        "Or a JSONPath that must select something."
    )
    transcript: JsonPath | None = Field(None, description="Where the words stand that somebody said.")
    speaker: Literal["caller", "agent"] = Field("caller", description="Whose words the transcript is.")
    final: bool | str = Field(True, description="Whether the transcript is final, or a JSONPath to that.")
    intent: TextOrPath | None = Field(None, description="What the agent takes the caller's intent for.")
    stage: TextOrPath | None = Field(None, description="The agent has reached this stage of its turn.")
    error: TextOrPath | None = Field(None, description="Code of an error after which the call goes on.")
    outcome: Literal["completed", "rejected", "agent_silent", "dropped_by_target", "protocol_error"] | None = Field(
        None, description="The call ends with this outcome."
    )
    reason: TextOrPath = Field("told by the agent", description="Why it ends.")
    reply_ended: bool = Field(False, description="The audio of the agent's reply is complete.")
    interrupted: bool = Field(False, description="What was sent and not yet played is to be dropped.")
    usage: UsagePaths | None = None
    ignore: bool = Field(False, description="The message is known and means nothing.")

    @field_validator("when")
    @classmethod
    def _paths_of_when(cls, value: Any) -> Any:
        if isinstance(value, str):
            return _checked_path(value)
        if not value:
            raise ValueError("say which messages the rule is for, as in {type: event}")
        for field in value:
            compile_path(field_path(field))
        return value

    @field_validator("final")
    @classmethod
    def _path_of_final(cls, value: bool | str) -> bool | str:
        return _checked_path(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _does_something(self) -> MessageRule:
        if not any(getattr(self, name) for name in ACTIONS):
            raise ValueError(f"the rule does nothing; give it one of {', '.join(ACTIONS[:-1])}, or ignore: true")
        if self.transcript is None and self.model_fields_set & {"speaker", "final"}:
            raise ValueError("speaker and final belong to a transcript, which the rule does not have")
        if self.outcome is None and "reason" in self.model_fields_set:
            raise ValueError("reason belongs to an outcome, which the rule does not have")
        return self


def field_path(field: str) -> str:
    """Return a field of `when` as a JSONPath: `payload.kind` is short for `$.payload.kind`."""
    return field if is_path(field) else f"$.{field}"
