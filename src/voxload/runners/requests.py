"""What a run has measured in the terms of tools that know requests: a type, a name, a response time, an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from voxload.errors import BadInputError, Problem
from voxload.measure.histogram import bucket_bounds
from voxload.measure.snapshot import Snapshot
from voxload.measure.summary import Verdict
from voxload.model.metric import is_latency
from voxload.model.outcome import NOT_ATTEMPTED, Outcome

SHOWN = frozenset({"call_setup", "turn_latency", "voice_response", "message_rtt", "http_latency"})
VOICE, CALL, VERDICT = "VOICE", "CALL", "VERDICT"
ALL_CALLS, VERDICT_NAME = "call", "voxload_verdict"
STDOUT = 1
_SKIPPED = frozenset(outcome.value for outcome in NOT_ATTEMPTED)


class Request(NamedTuple):
    """`times` requests of the same response time; `error` is empty where they went well."""

    type: str
    name: str
    latency_ms: float
    times: int = 1
    error: str = ""


def requests_of(snapshot: Snapshot, metrics: frozenset[str] = SHOWN, *, totals: bool = False) -> Iterator[Request]:
    """Yield latencies by metric and turn (`turn_latency booking`), and calls by kind, with what ended them.

    With `totals` everything comes a second time under a name for all turns (`turn_latency`) or all calls (`call`), for
    tools that judge by name. A latency is the middle of its histogram's bucket: exact to 0.2 %.
    """
    for series in snapshot.series:
        if series.metric not in metrics or not is_latency(series.metric):
            continue
        turn = series.labels.get("turn")
        names = [f"{series.metric} {turn}"] if turn else [series.metric]
        if totals and turn:
            names.append(series.metric)
        for index, count in series.histogram.buckets:
            low, high = bucket_bounds(index)
            for name in names:
                yield Request(VOICE, name, (low + high) / 2e6, count)
    for call in snapshot.calls:
        if call.outcome in _SKIPPED:
            continue
        failed = call.outcome != Outcome.COMPLETED.value
        error = f"{call.outcome}: {call.error}".rstrip(": ") if failed else ""
        for name in (call.call, ALL_CALLS) if totals else (call.call,):
            yield Request(CALL, name, call.duration_s * 1000, 1, error)


class RequestLog:
    """Writes requests while the run goes on, a line of JSON each, and the verdict as the last one.

    `{"type": "VOICE", "name": "turn_latency", "ms": 412.5, "count": 3, "error": ""}`

    Raises:
        BadInputError: the file cannot be made.
    """

    def __init__(self, place: str, metrics: frozenset[str]) -> None:
        """Write to the file `place`, `-` for standard output."""
        self._metrics = SHOWN | metrics
        self._place = place
        try:  # unbuffered: a line that a full disk did not take is not tried again when the file is closed
            self._file = open(STDOUT if place == "-" else Path(place), "wb", 0, closefd=place != "-")  # noqa: SIM115
        except OSError as error:
            raise BadInputError([Problem(f"--requests: {place} cannot be made: {error.strerror}")]) from None
        self._gone = False
        self.write_error = ""
        """Why it is incomplete; empty while all is well."""

    def take(self, snapshot: Snapshot) -> None:
        """Write what a shard has measured."""
        self._write(requests_of(snapshot, self._metrics, totals=True))

    def close(self, verdict: Verdict) -> None:
        """Write the verdict: an error unless the run has passed."""
        reasons = "; ".join(verdict.reasons)
        error = "" if verdict.exit_code == 0 else f"{verdict.status}: {reasons}".rstrip(": ")
        self._write(iter([Request(VERDICT, VERDICT_NAME, 0.0, 1, error)]))
        self._file.close()

    def _write(self, requests: Iterator[Request]) -> None:
        if self._gone:
            return
        lines = [
            json.dumps({"type": type_, "name": name, "ms": round(latency_ms, 3), "count": times, "error": error})
            for type_, name, latency_ms, times, error in requests
        ]
        rest = "".join(f"{line}\n" for line in lines).encode()
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:  # the run goes on, its reports are written
            self._gone = True
            if not isinstance(error, BrokenPipeError):  # then nobody reads any more
                self.write_error = f"{self._place}: {error.strerror}"
