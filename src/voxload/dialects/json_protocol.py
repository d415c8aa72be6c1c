"""A protocol that a scenario describes, compiled once: templates of the caller's messages, rules for the agent's."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any

import msgspec
import pybase64

from voxload.dialects.events import AudioIn, Malformed
from voxload.dialects.json_template import AUDIO, AudioTemplate, JsonTemplate, Path, literal, path_of, put

if TYPE_CHECKING:
    from voxload.dialects.json_fields import JsonOptions, Rule

AGENT_FRAME_MS = 20


class CompiledRule:
    """A rule, its fields as paths."""

    def __init__(self, rule: Rule) -> None:
        def path(text: str | None) -> Path | None:
            return None if text is None else path_of(text)

        self.rule = rule
        self.audio, self.transcript, self.reply_text = path(rule.audio), path(rule.transcript), path(rule.reply_text)
        self.final, self.mark, self.code, self.message = (
            path(rule.final),
            path(rule.mark),
            path(rule.code),
            path(rule.message),
        )
        self.when = [(path_of(field), value) for field, value in rule.when.items()]
        self.expect = [(path_of(field), value) for field, value in rule.expect.items()]
        self.take = [(name, path_of(field)) for name, field in rule.take.items()]
        self.answer = None if rule.answer is None else JsonTemplate(rule.answer)


class Protocol:
    """A description, compiled."""

    def __init__(self, fields: JsonOptions) -> None:
        self.fields = fields
        send, receive = fields.send, fields.receive
        self.sent = {name: JsonTemplate(body) for name, body in send.messages()}
        self.audio = None if send.audio == "binary" else AudioTemplate(self.sent["audio"], fields.frame_ms)
        self.start_body = JsonTemplate(fields.start.body) if fields.start else None
        self.start_take = [(name, path_of(field)) for name, field in fields.start.take.items()] if fields.start else []
        self.by = path_of(receive.by)
        self.rules = {kind: [CompiledRule(rule) for rule in rules] for kind, rules in receive.messages.items()}
        self.awaits_ready = any(rule.rule.means == "ready" for rules in self.rules.values() for rule in rules)
        # The caller's messages, those with most marks first: what fits them fits no other.
        self.order = sorted(self.sent, key=lambda name: -len(self.sent[name].constants) - len(self.sent[name].holes))
        spoken = self.example("audio")
        self.agent_audio = None
        if receive.binary != "audio" and spoken is not None:
            body, rule = spoken
            assert rule.audio is not None
            put(body, rule.audio, f"${{{AUDIO}}}")
            self.agent_audio = AudioTemplate(JsonTemplate(body), AGENT_FRAME_MS)

    def example(self, field: str = "", means: str = "") -> tuple[dict[str, Any], CompiledRule] | None:
        """Return a message of the agent's that has a field or a meaning, and its rule; None where no rule is for it."""
        for kind, rules in self.rules.items():
            for rule in rules:
                if (field and getattr(rule, field) is not None) or (means and rule.rule.means == means):
                    body: dict[str, Any] = {}
                    put(body, self.by, literal(kind))
                    for path, value in (*rule.when, *rule.expect):
                        put(body, path, literal(value))
                    return body, rule
        return None


def decode_json(payload: bytes) -> Any:
    """Return the JSON of a message, or what is wrong with it."""
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Malformed(f"not JSON: {error}")


def decode_audio(encoded: Any) -> AudioIn | Malformed:
    """Return the audio in a field, or what is wrong with it."""
    if not isinstance(encoded, str):
        return Malformed(f"audio is not base64 but {type(encoded).__name__}")
    try:
        return AudioIn(pybase64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as error:
        return Malformed(f"audio is not base64: {error}")
