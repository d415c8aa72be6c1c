"""One call on one time axis: who spoke when, how long the caller waited, what went wrong, and how it sounded."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from voxload.measure.probe import ProbeResult
from voxload.measure.summary import CallMoment, CallRecord, TurnRecord
from voxload.report import text
from voxload.report.calls import CallRow, Scale, answer_of, call_rows, length_of, problems_of, scale_of
from voxload.report.probes import ProbeLane, probe_lanes
from voxload.report.sound import Sound
from voxload.report.waterfall import Step, waterfall

MOMENTS_MAX = 40
"""Moments of one call that are drawn and listed."""
TURNS_MAX = 60
_PX_PER_S = 34
_WIDTH_PX = (560, 6000)
_OPEN_END_S = 0.8
"""Length at which speech is drawn whose end is not known."""
_BAD_KINDS = frozenset(
    {"underrun", "gap", "dead_air", "false_barge_in", "agent_interruption", "spoke_over", "no_reply", "error"}
)


class Span(NamedTuple):
    """A stretch on a lane: position and width in percent; `tone` may hold `bad`, `open` (end not known), `silent`."""

    left: float
    width: float
    label: str
    told: str
    tone: str = ""


class Pin(NamedTuple):
    """A moment: a number above the lanes, and its line in the list below; `level` keeps neighbours apart."""

    number: int
    left: float
    width: float
    level: int
    at: str
    kind: str
    text: str
    tone: str


class TurnRow(NamedTuple):
    """One turn in words; `said` and `heard` are (text, differs) pieces."""

    number: int
    name: str
    at: str
    said: tuple[tuple[str, bool], ...]
    heard: tuple[tuple[str, bool], ...]
    reply: str
    intent: str
    intent_heard: str
    intent_wrong: bool
    latency: str
    first_packet: str
    stages: str
    word_errors: str
    problems: tuple[str, ...]
    steps: tuple[Step, ...]


class CallCard(NamedTuple):
    """One call with all that is known of it."""

    row: CallRow
    persona: str
    facts: tuple[tuple[str, str], ...]
    axis_s: float
    width_px: int
    ticks: tuple[tuple[float, str], ...]
    setup: Span | None
    bands: tuple[Span, ...]
    caller: tuple[Span, ...]
    agent: tuple[Span, ...]
    waits: tuple[Span, ...]
    gaps: tuple[Span, ...]
    pins: tuple[Pin, ...]
    pin_levels: int
    more_pins: int
    turns: tuple[TurnRow, ...]
    sound: Sound | None
    waves: tuple[str, ...]
    """Envelopes as SVG paths, 0 to 600 wide and -100 to 100 high."""
    wave_width: float
    """In percent of the axis; over 100 where the recording goes on after it."""
    probes: tuple[tuple[str, tuple[Span, ...]], ...]
    """What each probe of a service saw meanwhile, a stretch of the run at a time; `bad` where it was slow or failed."""


def call_cards(
    calls: list[CallRecord], sounds: Mapping[str, Sound], probes: Sequence[ProbeResult] = (), stretch_s: float = 1.0
) -> list[CallCard]:
    """Return calls with everything that is drawn of them; each has a time axis of its own.

    `probes` have points of `stretch_s` on the time axis of the run.
    """
    return [
        _card(call, row, sounds.get(call.recording), probes, stretch_s)
        for call, row in zip(calls, call_rows(calls), strict=True)
    ]


def _card(
    call: CallRecord, row: CallRow, sound: Sound | None, probes: Sequence[ProbeResult], stretch_s: float
) -> CallCard:
    length_s = length_of(call) or 1.0
    scale = scale_of(length_s)
    setup_s = (call.setup_ms or 0) / 1e3
    pins, levels = _pins(call.moments[:MOMENTS_MAX], scale)
    turns = call.turns[:TURNS_MAX]
    duration_s = sound.duration_s if sound else 0.0
    return CallCard(
        row=row,
        persona=text.clean(call.persona, 60),
        facts=_facts(call),
        axis_s=round(length_s, 3),
        width_px=round(min(max(length_s * _PX_PER_S, _WIDTH_PX[0]), _WIDTH_PX[1])),
        ticks=_ticks(length_s),
        setup=Span(0, scale(setup_s), "set-up", f"set-up, {row.setup}") if setup_s else None,
        bands=tuple(_band(call, number, scale) for number in range(len(turns)) if problems_of(call, number)),
        caller=tuple(_caller_span(call, number, scale) for number in range(len(turns))),
        agent=(*_greetings(call.moments, scale), *_agent_spans(call, turns, scale)),
        waits=tuple(_wait(call, number, length_s) for number in range(len(turns))),
        gaps=tuple(
            _span(moment.at_s, moment.at_s + moment.duration_s, scale, "", _moment_told(moment))
            for moment in call.moments[:MOMENTS_MAX]
            if moment.duration_s and moment.kind in {"underrun", "gap"}
        ),
        pins=pins,
        pin_levels=levels,
        more_pins=max(len(call.moments) - MOMENTS_MAX, 0),
        turns=tuple(_turn_row(call, number) for number in range(len(turns))),
        sound=sound,
        waves=tuple(_wave_path(channel) for channel in sound.channels) if sound else (),
        wave_width=round(100 * duration_s / length_s, 2),
        probes=tuple((lane.name, _looks(lane, scale)) for lane in probe_lanes(call, length_s, probes, stretch_s)),
    )


def _looks(lane: ProbeLane, scale: Scale) -> tuple[Span, ...]:
    return tuple(
        _span(look.from_s, look.to_s, scale, look.label, look.told, "bad" if look.bad else "") for look in lane.looks
    )


def _facts(call: CallRecord) -> tuple[tuple[str, str], ...]:
    """Return the figures of the whole call that are known."""
    mos = "" if call.mos is None else f"{call.mos:.2f} {call.mos_scale}".strip()
    underruns = f"{call.underruns} ({text.milliseconds(call.underrun_ms)})" if call.underruns else ""
    spoken = ""
    if call.agent_speech_s or call.caller_speech_s:
        spoken = f"caller {call.caller_speech_s:.1f} s, agent {call.agent_speech_s:.1f} s"
    found = (
        ("Lasted", text.milliseconds(call.duration_s * 1e3) if call.duration_s else ""),
        ("Set-up", text.milliseconds(call.setup_ms) if call.setup_ms is not None else ""),
        ("MOS", text.clean(mos, 40)),
        ("Late audio", text.percent(call.late_share) if call.late_share is not None else ""),
        ("Jitter", text.milliseconds(call.jitter_ms) if call.jitter_ms is not None else ""),
        ("Underruns", underruns),
        ("Speech", spoken),
        ("Cost", text.money(call.cost) if call.cost is not None else ""),
        ("Trace", text.clean(call.trace_id, 40)),
    )
    return tuple(item for item in found if item[1])


def _span(start_s: float, end_s: float, scale: Scale, label: str, told: str, tone: str = "") -> Span:
    left = scale(start_s)
    return Span(left, round(max(scale(end_s) - left, 0.0), 2), label, told, tone)


def _ticks(length_s: float) -> tuple[tuple[float, str], ...]:
    """Return at most 13 round instants on the axis."""
    step = next(step for step in (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 1e9) if length_s / step <= 12.5)
    scale = scale_of(length_s)
    return tuple((scale(number * step), f"{number * step:g} s") for number in range(int(length_s / step) + 1))


def _next_speech_s(call: CallRecord, number: int) -> float:
    """Return when the caller speaks again after a turn, or the end of the call."""
    for turn in call.turns[number + 1 :]:
        return turn.speech_start_s if turn.speech_start_s is not None else turn.speech_end_s
    return length_of(call)


def _reply_s(turn: TurnRecord) -> float | None:
    if turn.reply_start_s is not None:
        return turn.reply_start_s
    return turn.speech_end_s + turn.latency_ms / 1e3 if turn.latency_ms is not None else None


def _caller_span(call: CallRecord, number: int, scale: Scale) -> Span:
    turn = call.turns[number]
    name = text.clean(turn.turn, 40)
    told = f"turn {number + 1}, {name}" + (f": {text.clean(turn.said, 200)}" if turn.said else "")
    bad = "bad" if problems_of(call, number) else ""
    if turn.speech_start_s is None:
        begun_s = max(turn.speech_end_s - _OPEN_END_S, 0)
        return _span(begun_s, turn.speech_end_s, scale, name, told, f"{bad} begun".strip())
    return _span(turn.speech_start_s, turn.speech_end_s, scale, name, told, bad)


def _agent_spans(call: CallRecord, turns: list[TurnRecord], scale: Scale) -> list[Span]:
    found = []
    for number, turn in enumerate(turns):
        start_s = _reply_s(turn)
        if start_s is None:
            continue
        told = f"reply to turn {number + 1}" + (f": {text.clean(turn.reply, 200)}" if turn.reply else "")
        if turn.reply_end_s is not None:
            found.append(_span(start_s, turn.reply_end_s, scale, text.clean(turn.reply, 80), told))
        else:
            end_s = min(start_s + _OPEN_END_S, max(_next_speech_s(call, number), start_s))
            found.append(_span(start_s, end_s, scale, "", f"{told} (its end is not known)", "open"))
    return found


def _greetings(moments: list[CallMoment], scale: Scale) -> list[Span]:
    return [
        _span(moment.at_s, moment.at_s + moment.duration_s, scale, "greeting", _moment_told(moment))
        for moment in moments
        if moment.kind == "greeting" and moment.duration_s
    ]


def _wait(call: CallRecord, number: int, length_s: float) -> Span:
    turn, scale = call.turns[number], scale_of(length_s)
    reply_s = _reply_s(turn)
    answer = answer_of(turn)
    told = f"turn {number + 1}, {text.clean(turn.turn, 40)}: {answer}"
    bad = "bad" if problems_of(call, number) else ""
    if reply_s is None:
        return _span(turn.speech_end_s, _next_speech_s(call, number), scale, answer, told, f"silent {bad}".strip())
    return _span(turn.speech_end_s, max(reply_s, turn.speech_end_s), scale, answer, told, bad)


def _band(call: CallRecord, number: int, scale: Scale) -> Span:
    turn = call.turns[number]
    start_s = turn.speech_start_s if turn.speech_start_s is not None else turn.speech_end_s
    reply_s = _reply_s(turn)
    end_s = _next_speech_s(call, number) if reply_s is None else turn.reply_end_s or reply_s
    return _span(start_s, max(end_s, turn.speech_end_s), scale, str(number + 1), "; ".join(problems_of(call, number)))


def _moment_told(moment: CallMoment) -> str:
    told = text.title(text.clean(moment.kind, 40))
    return f"{told}: {text.clean(moment.text, 160)}" if moment.text else told


def _pins(moments: list[CallMoment], scale: Scale) -> tuple[tuple[Pin, ...], int]:
    """Return the moments in order of time, and on how many levels they stand so that none covers another."""
    ends: list[float] = []
    pins = []
    for number, moment in enumerate(sorted(moments, key=lambda moment: moment.at_s), 1):
        left = scale(moment.at_s)
        width = round(scale(moment.at_s + moment.duration_s) - left, 2)
        level = next((level for level, end in enumerate(ends) if left >= end), len(ends))
        ends[level : level + 1] = [left + 3.2]
        kind, said = text.title(text.clean(moment.kind, 40)), text.clean(moment.text, 160)
        if moment.duration_s and not said:
            said = f"for {text.milliseconds(moment.duration_s * 1e3)}"
        tone = "bad" if moment.kind in _BAD_KINDS else "info"
        pins.append(Pin(number, left, width, level, f"{moment.at_s:.2f} s", kind, said, tone))
    return tuple(pins), len(ends)


def _turn_row(call: CallRecord, number: int) -> TurnRow:
    turn = call.turns[number]
    said, heard = differences(text.clean(turn.said, 400), text.clean(turn.heard, 400))
    # Where its two parts are known, their sum says nothing new.
    parts = {"llm", "tts"} <= turn.stages_ms.keys()
    stages = ", ".join(
        f"{text.title(name)} {text.milliseconds(value)}"
        for name, value in turn.stages_ms.items()
        if not (parts and name == "voice_response")
    )
    start_s = turn.speech_start_s if turn.speech_start_s is not None else turn.speech_end_s
    return TurnRow(
        number + 1,
        text.clean(turn.turn, 60),
        f"{start_s:.1f} s",
        said,
        heard,
        text.clean(turn.reply, 400),
        text.clean(turn.intent, 60),
        text.clean(turn.intent_heard, 60),
        turn.intent_correct is False,
        answer_of(turn),
        text.milliseconds(turn.first_packet_ms) if turn.first_packet_ms is not None else "",
        stages,
        text.percent(turn.word_error_rate) if turn.word_error_rate is not None else "",
        problems_of(call, number),
        waterfall(turn),
    )


def differences(said: str, heard: str) -> tuple[tuple[tuple[str, bool], ...], tuple[tuple[str, bool], ...]]:
    """Return both texts as (words, differs) pieces; case and punctuation do not count, nor does an empty text."""
    if not said or not heard:
        return ((said, False),) if said else (), ((heard, False),) if heard else ()
    left, right = said.split(), heard.split()
    plain = [["".join(filter(str.isalnum, word.casefold())) for word in words] for words in (left, right)]
    one: list[tuple[str, bool]] = []
    two: list[tuple[str, bool]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, plain[0], plain[1], autojunk=False).get_opcodes():
        if a < b:
            one.append((" ".join(left[a:b]), kind != "equal"))
        if c < d:
            two.append((" ".join(right[c:d]), kind != "equal"))
    return tuple(one), tuple(two)


def _wave_path(heights: tuple[int, ...]) -> str:
    """Return an envelope as one closed SVG path around the middle line."""
    if not heights:
        return ""
    step = 600 / len(heights)
    top = " ".join(f"{round(number * step, 1):g} {-height}" for number, height in enumerate(heights))
    last = len(heights) - 1
    bottom = " ".join(f"{round((last - at) * step, 1):g} {height}" for at, height in enumerate(reversed(heights)))
    return f"M{top} {bottom}Z"
