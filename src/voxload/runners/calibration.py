"""The meter against the embedded agent: it is told what to do, and the report must say so, within a stated error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any, NamedTuple

import msgspec
import uvloop

from voxload.errors import RunAbortedError
from voxload.measure.collector import Collector
from voxload.measure.summary import LATENESS_LIMIT_MS
from voxload.model.metric import SCALE
from voxload.model.plan import Plan
from voxload.model.scenario import Scenario
from voxload.runners.local import LocalRunner

TIME_BOUND_MS = 10.0
"""Half a frame of 20 ms: what the meter may be wrong by in a time."""
CONFIDENCE = 0.998
"""Of the interval that a measured rate must lie in around the stated one (Wilson's, for a binomial proportion)."""

StartTwin = Callable[[Scenario], Any]
"""Returns a context manager that runs the scenario's embedded agent and has its `url`."""


class Row(msgspec.Struct, frozen=True):
    """One stated value and what was measured; `low` to `high` is where it had to lie."""

    experiment: str
    quantity: str
    stated: float
    measured: float | None
    low: float
    high: float
    unit: str
    observations: int

    @property
    def kept(self) -> bool:
        """Whether the meter was right."""
        return self.measured is not None and self.low <= self.measured <= self.high


class Experiment(NamedTuple):
    """One run of the agent: how its scenario differs, and what must be read off."""

    name: str
    changes: dict[str, Any]
    read: Callable[[Collector], Iterator[tuple[str, float, float | None, float, float, str, int]]]
    """Yields (quantity, stated, measured, low, high, unit, observations)."""


def run_experiment(experiment: Experiment, calls: int, start_twin: StartTwin) -> tuple[list[Row], float]:
    """Run one experiment; returns its rows and the generator's frame lateness at p99 in ms.

    Raises:
        RunAbortedError: the run could not be made.
    """
    data = _scenario(calls) | experiment.changes
    scenario = Scenario.model_validate(data)
    with start_twin(scenario) as twin:
        plan = Plan("calibration", data, twin.url)
        collector = Collector()
        uvloop.run(LocalRunner(plan, min(2, len(os.sched_getaffinity(0))), collector).run())
    lost = [state.lost for state in collector.shards.values() if state.lost]
    if lost:
        raise RunAbortedError(f"{experiment.name}: {lost[0]}")
    late_ns = collector.histogram("frame_lateness").quantile(0.99)
    rows = [Row(experiment.name, *row) for row in experiment.read(collector)]
    return rows, (late_ns or 0.0) / 1e6


def trusted(lateness_ms: float) -> bool:
    """Return whether the generator kept time, so that a deviation is the meter's own."""
    return lateness_ms <= LATENESS_LIMIT_MS


def experiments(short: bool) -> list[Experiment]:
    """Return the grid; the short one has a point of each kind."""
    turns = (700,) if short else (200, 700, 1500, 3000)
    delays = (300,) if short else (200, 300, 600)
    gaps = (200,) if short else (100, 200, 300)
    return [
        *(_turn_latency(latency_ms, "paced") for latency_ms in turns),
        *([] if short else [_turn_latency(700, "burst")]),
        *(_barge_in(delay_ms) for delay_ms in delays),
        *(_underruns(gap_ms) for gap_ms in gaps),
        _loss(0.05),
        _understanding(0.1, 0.1),
        *([] if short else [_understanding(0.3, 0.05), _loss(0.2), _silence(0.1), _yielding(0.2)]),
    ]


def _scenario(calls: int) -> dict[str, Any]:
    return {
        "name": "calibration",
        "target": "twin",
        "dialect": {"name": "rtmed", "message_rate": 50},
        "seed": 11,
        "load": {"shape": "constant", "arrival_rate": 25, "duration": calls / 25},
        "calls": [{"name": "c", "script": [{"say": "book_appointment"}, "wait_for_agent"]}],
        "twin": {"greeting": False, "reply_seconds_max": 1.5},
        "timeouts": {"agent_reply": "5s"},
    }


def _times(
    collector: Collector, metric: str, stated_ms: float
) -> Iterator[tuple[str, float, float | None, float, float, str, int]]:
    histogram = collector.histogram(metric)
    for name, fraction in (("p50", 0.5), ("p95", 0.95)):
        value = histogram.quantile(fraction)
        measured = None if value is None else value / 1e6
        bounds = (stated_ms - TIME_BOUND_MS, stated_ms + TIME_BOUND_MS)
        yield f"{name}({metric})", stated_ms, measured, *bounds, "ms", histogram.count


def _rate(
    collector: Collector, metric: str, stated: float
) -> Iterator[tuple[str, float, float | None, float, float, str, int]]:
    histogram = collector.histogram(metric)
    count, mean = histogram.count, histogram.mean
    low, high = wilson(stated, count)
    measured = None if mean is None else 100 * mean / SCALE
    yield metric, 100 * stated, measured, 100 * low, 100 * high, "%", count


def wilson(share: float, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Wilson's score interval around a proportion of `count` trials (E. B. Wilson, 1927)."""
    if not count:
        return share, share
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return centre - half, centre + half


def _turn_latency(latency_ms: int, delivery: str) -> Experiment:
    def read(collector: Collector) -> Iterator[tuple[str, float, float | None, float, float, str, int]]:
        yield from _times(collector, "turn_latency", latency_ms)
        yield from _times(collector, "first_packet", latency_ms)

    twin = {"greeting": False, "reply_seconds_max": 1, "delivery": delivery, "latency": {"turn": latency_ms / 1000}}
    return Experiment(f"a turn of {latency_ms} ms, {delivery}", {"twin": twin}, read)


def _barge_in(delay_ms: int) -> Experiment:
    def read(collector: Collector) -> Iterator[tuple[str, float, float | None, float, float, str, int]]:
        yield from _times(collector, "barge_in_stop", delay_ms)
        yield from _rate(collector, "yield_rate", 1.0)

    say = [
        {"say": "opening_hours"},
        {"barge_in": {"utterance": "book_appointment", "after": "500ms"}},
        "wait_for_agent",
    ]
    twin = {"greeting": False, "barge_in_delay": delay_ms / 1000}
    return Experiment(f"stops {delay_ms} ms after an interruption", _script(say) | {"twin": twin}, read)


def _underruns(gap_ms: int) -> Experiment:
    def read(collector: Collector) -> Iterator[tuple[str, float, float | None, float, float, str, int]]:
        histogram = collector.histogram("underruns")
        mean = histogram.mean
        yield "mean(underruns)", 1.0, None if mean is None else mean / SCALE, 1.0, 1.0, "a call", histogram.count

    twin = {"greeting": False, "faults": {"underruns": {"rate": 1, "gap": gap_ms / 1000}}}
    return Experiment(f"one gap of {gap_ms} ms in each reply", {"twin": twin}, read)


def _loss(share: float) -> Experiment:
    def read(collector: Collector) -> Iterator[tuple[str, float, float | None, float, float, str, int]]:
        totals = collector.totals()
        frames = totals.frames_sent + totals.frames_lost
        low, high = wilson(share, frames)
        measured = 100 * totals.frames_lost / frames if frames else None
        yield "caller's frames lost", 100 * share, measured, 100 * low, 100 * high, "%", frames

    persona = {"name": "lossy", "line": {"loss": share}}
    return Experiment(f"a line that loses {share:.0%}", {"personas": [persona]}, read)


def _understanding(intent_errors: float, word_errors: float) -> Experiment:
    def read(collector: Collector) -> Iterator[tuple[str, float, float | None, float, float, str, int]]:
        yield from _rate(collector, "intent_accuracy", 1 - intent_errors)
        yield from _rate(collector, "word_error_rate", word_errors)

    faults = {"intent_error_rate": intent_errors, "word_error_rate": word_errors}
    twin = {"greeting": False, "reply_seconds_max": 1, "faults": faults}
    name = f"misunderstands {intent_errors:.0%} of intents, {word_errors:.0%} of words"
    return Experiment(name, {"twin": twin}, read)


def _silence(share: float) -> Experiment:
    def read(collector: Collector) -> Iterator[tuple[str, float, float | None, float, float, str, int]]:
        yield from _rate(collector, "missed_response", share)

    twin = {"greeting": False, "reply_seconds_max": 1, "faults": {"silent_rate": share}}
    return Experiment(f"leaves {share:.0%} of turns unanswered", {"twin": twin}, read)


def _yielding(share: float) -> Experiment:
    def read(collector: Collector) -> Iterator[tuple[str, float, float | None, float, float, str, int]]:
        yield from _rate(collector, "yield_rate", 1 - share)

    say = [
        {"say": "opening_hours"},
        {"barge_in": {"utterance": "book_appointment", "after": "300ms"}},
        "wait_for_agent",
    ]
    twin = {"greeting": False, "faults": {"ignore_barge_in_rate": share}}
    return Experiment(f"does not stop for {share:.0%} of interruptions", _script(say) | {"twin": twin}, read)


def _script(steps: list[Any]) -> dict[str, Any]:
    return {"calls": [{"name": "c", "script": steps}]}
