"""Folders of runs as `voxload run` leaves them, made from seeded calls in no time."""

import math
import random

import msgspec

from voxload.measure.evidence import call_shares, call_values
from voxload.measure.histogram import Histogram
from voxload.measure.probe import ProbeResult
from voxload.measure.series import Series
from voxload.measure.summary import (
    CallRecord,
    PlanFacts,
    PlannedPhase,
    RunFacts,
    Summary,
    Totals,
    TurnRecord,
    Verdict,
    encode_summary,
)
from voxload.model.metric import SCALE
from voxload.runners.results import ResultsFolder

FINGERPRINT = {"load": "a", "calls": "b"}


def made_calls(calls=120, seed=1, shift=1.0, failed=0.0):
    rng = random.Random(seed)
    for index in range(calls):
        slow = math.exp(rng.gauss(0, 0.2))
        turns = [
            TurnRecord(turn, 1.0 + number, 700 * shift * slow * math.exp(rng.gauss(0, 0.3)))
            for number, turn in enumerate(("greet", "book", "confirm"))
        ]
        ok = rng.random() >= failed
        yield CallRecord(
            index,
            f"call-{index}",
            ("booking", "billing")[index % 2],
            ("ramp", "hold")[index >= calls // 3],
            index / 20,
            "completed" if ok else "dropped_by_target",
            5.0 + slow,
            90 * math.exp(rng.gauss(0, 0.3)),
            turns,
            persona="calm",
            samples={"message_rtt": [20 * math.exp(rng.gauss(0, 0.3)) for _ in range(4)]},
        )


def made_probe(name="cache", seed=1, shift=1.0, failed=0, problem=""):
    """What a probe of a service would have measured, by 40 units of work of two commands each."""
    rng = random.Random(seed)
    whole, single, success, late = Histogram(), Histogram(), Histogram(), Histogram()
    for _ in range(40):
        single.record(round(4e6 * shift * math.exp(rng.gauss(0, 0.1))))
        whole.record(round(9e6 * shift * math.exp(rng.gauss(0, 0.1))))
        late.record(200_000)
    success.record_many(SCALE, 40)
    success.record_many(0, failed)
    measured = (
        ("operation_latency", {}, whole),
        ("redis_command", {"command": "hset"}, single),
        ("operation_success", {}, success),
        ("loop_lateness", {}, late),
    )
    series = [Series(metric, labels, own.to_data()) for metric, labels, own in measured]
    return ProbeResult(
        name, "redis", "redis://cache:6379", 1.0, ("operation_latency", "redis_command"), 20.0,
        {"completed": 40, "rejected": failed}, series,
        problem=problem,
    )  # fmt: skip


def series_of(calls):
    """The histograms that belong to the calls."""
    found = {}

    def at(metric, **labels):
        return found.setdefault((metric, tuple(labels.items())), Histogram())

    for record in calls:
        labels = {"call": record.call, "persona": record.persona, "phase": record.phase}
        for metric, value, turn in call_values(record):
            at(metric, **labels, **({"turn": turn} if turn else {})).record(round(value))
        for metric, (good, count) in call_shares(record).items():
            at(metric, **labels).record_many(SCALE, good)
            at(metric, **labels).record_many(0, count - good)
    return [Series(metric, dict(labels), histogram.to_data()) for (metric, labels), histogram in sorted(found.items())]


def made_run(
    folder, run_id="20260101-000000-demo-0001", started_at="2026-01-01T00:00:00+00:00", scenario="demo", model="open",
    fingerprint=FINGERPRINT, commit="abc123", branch="main", cut_short="", stopped_early="", status="passed", probes=(),
    **calls,
):  # fmt: skip
    """Write a run's folder and return it."""
    records = list(made_calls(**calls))
    completed = sum(record.outcome == "completed" for record in records)
    load_s = len(records) / 20
    summary = Summary(
        version=1,
        run=RunFacts(
            run_id=run_id,
            scenario=scenario,
            description="",
            started_at=started_at,
            duration_s=load_s + 6,
            target="embedded agent",
            dialect="rtmed",
            seed=1,
            voxload_version="0",
            cut_short=cut_short,
            stopped_early=stopped_early,
            environment={"git_commit": commit, "git_branch": branch, "host": "here"},
        ),
        plan=PlanFacts(
            model,
            [PlannedPhase("ramp", 0.0, load_s / 3, 20, 20, 1), PlannedPhase("hold", load_s / 3, load_s, 20, 20, 1)],
            len(records),
            load_s,
            {"booking": 0.5, "billing": 0.5},
            20,
            1,
            fingerprint=fingerprint,
        ),
        totals=Totals(
            len(records),
            {"completed": completed, "dropped_by_target": len(records) - completed},
            0,
            0,
            0,
            0,
            0,
            {},
            {},
            {},
        ),
        levels={"throughput": completed / load_s, "concurrent_calls": 100.0},
        series=series_of(records),
        timeline=[],
        shards=[],
        errors=[],
        worst_calls=[],
        gates=[],
        verdict=Verdict(status, {"passed": 0, "failed": 1}.get(status, 4), []),
        probes=list(probes),
    )
    results = ResultsFolder(folder / run_id)
    results.append_calls(records)
    results.close()
    results.write("summary.json", encode_summary(summary))
    return results.path


def decoded(text):
    return msgspec.json.decode(text.encode())
