"""Side messages on the media socket: the scenario's rules make events of what the dialect does not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from voxload.dialects.base import Event, Interrupted, PeerError, ReplyEnded, Stage, Transcript, Unknown, Usage
from voxload.model.json_path import MISSING, Getter, compile_path, is_path
from voxload.model.messages import MessageRule, field_path
from voxload.model.outcome import Outcome

MESSAGE_BYTES_MAX = 256 * 1024
"""Larger messages are not read: they would make the frames of other calls late."""
NAMES_MAX = 50
"""Names of stages and codes of errors that a peer may choose; further ones are `other`."""
NAME_LENGTH_MAX = 80


class IntentHeard(NamedTuple):
    """The agent names the intent that it takes the caller's words for."""

    intent: str


class CallEnds(NamedTuple):
    """The agent's message ends the call."""

    outcome: Outcome
    reason: str


RuledEvent = Event | IntentHeard | CallEnds
_Condition = Callable[[Any], bool]
_Action = Callable[[Any], RuledEvent]


class _NoValueError(Exception):
    """A message lacks what a rule wants of it."""


class MessageRules:
    """The rules of a scenario, compiled once. All rules that fit a message apply, in their order."""

    def __init__(self, rules: Sequence[MessageRule]) -> None:
        self._names: set[str] = set()
        self._rules = [(_condition(rule), self._actions(rule)) for rule in rules]

    def read(self, payload: bytes) -> list[RuledEvent] | None:
        """Return what a message means; None where no rule is for it, or it is no JSON."""
        if len(payload) > MESSAGE_BYTES_MAX:
            return None
        try:
            data = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        found: list[RuledEvent] = []
        fits = False
        for number, (condition, actions) in enumerate(self._rules):
            if not condition(data):
                continue
            fits = True
            try:
                found += [action(data) for action in actions]
            except _NoValueError as missing:
                found.append(Unknown(f"messages[{number}]: {missing}"))
        return found if fits else None

    def _actions(self, rule: MessageRule) -> list[_Action]:
        """Return what a rule makes of a message, the end of the call last."""
        actions: list[_Action] = []
        if rule.transcript is not None:
            actions.append(_transcript(rule, rule.transcript))
        elif rule.intent is not None:
            intent = _text(rule.intent)
            actions.append(lambda data: IntentHeard(intent(data)))
        if rule.stage is not None:
            stage = self._name(rule.stage)
            actions.append(lambda data: Stage(stage(data)))
        if rule.error is not None:
            code = self._name(rule.error)
            actions.append(lambda data: PeerError(code(data)))
        if rule.usage is not None:
            tokens = (_tokens(rule.usage.input_tokens), _tokens(rule.usage.output_tokens))
            actions.append(lambda data: Usage(tokens[0](data), tokens[1](data)))
        if rule.reply_ended:
            actions.append(lambda _: ReplyEnded())
        if rule.interrupted:
            actions.append(lambda _: Interrupted())
        if rule.outcome is not None:
            outcome, reason = Outcome(rule.outcome), _text(rule.reason, "no reason is given")
            actions.append(lambda data: CallEnds(outcome, reason(data)))
        return actions

    def _name(self, written: str) -> Callable[[Any], str]:
        """Return a text that becomes a label: a peer cannot make more than so many of them."""
        if not is_path(written):
            return lambda _: written
        text, names = _text(written), self._names

        def name(data: Any) -> str:
            found = text(data)[:NAME_LENGTH_MAX]
            if found not in names and len(names) >= NAMES_MAX:
                return "other"
            names.add(found)
            return found

        return name


def _condition(rule: MessageRule) -> _Condition:
    if isinstance(rule.when, str):
        exists = compile_path(rule.when)
        return lambda data: exists(data) is not MISSING
    wanted = [
        (compile_path(field_path(field)), value if isinstance(value, tuple) else (value,))
        for field, value in rule.when.items()
    ]
    return lambda data: all(_is_one_of(get(data), values) for get, values in wanted)


def _is_one_of(found: Any, values: tuple[Any, ...]) -> bool:
    """Compare as JSON does: 1 and 1.0 are equal, 1 and true are not."""
    boolean = isinstance(found, bool)
    return any(found == value and isinstance(value, bool) is boolean for value in values)


def _transcript(rule: MessageRule, path: str) -> _Action:
    words, speaker = _text(path), rule.speaker
    final = _flag(rule.final)
    intent = _text(rule.intent, "") if rule.intent is not None else lambda _: ""
    return lambda data: Transcript(words(data), speaker, final(data), intent(data))


def _text(written: str, default: str | None = None) -> Callable[[Any], str]:
    """Return a text as it stands, or what the message has at a path: a text, or a number as one."""
    if not is_path(written):
        return lambda _: written
    get = compile_path(written)

    def text(data: Any) -> str:
        found = get(data)
        if isinstance(found, str):
            return found
        if isinstance(found, int | float) and not isinstance(found, bool):
            return str(found)
        if default is not None:
            return default
        raise _NoValueError(f"no text at {written}")

    return text


def _flag(written: bool | str) -> Callable[[Any], bool]:
    if isinstance(written, bool):
        return lambda _: written
    get = compile_path(written)

    def flag(data: Any) -> bool:
        found = get(data)
        if not isinstance(found, bool):
            raise _NoValueError(f"neither true nor false at {written}")
        return found

    return flag


def _tokens(path: str) -> Callable[[Any], int]:
    get: Getter = compile_path(path)

    def tokens(data: Any) -> int:
        found = get(data)
        if isinstance(found, bool) or not isinstance(found, int) or found < 0:
            raise _NoValueError(f"no count of tokens at {path}")
        return found

    return tokens
