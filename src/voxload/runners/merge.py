"""Several machines' parts of one test as one run: the same collector takes in their snapshots, so all is exact."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from voxload.clock import NS_PER_S
from voxload.errors import BadInputError, Collected, Problem
from voxload.measure.collector import Collector
from voxload.measure.histogram import Histogram
from voxload.measure.probe import ProbeResult
from voxload.measure.recovery import RECOVERY_METRICS, with_recovery
from voxload.measure.series import Series
from voxload.measure.snapshot import Snapshot, shifted
from voxload.measure.summarize import build_summary
from voxload.measure.summary import PlanFacts, PlannedPhase, Recovery, RunFacts, Summary, read_summary
from voxload.model.fingerprint import differing
from voxload.model.load import Load
from voxload.runners.parts import PartHeader, read_part

SHARE_ERROR_MAX = 0.005
"""Shares are written by people and by engines that count: 33% three times is a whole."""
OF_THE_PART = frozenset({"load", "measurement"})
"""Parts of a scenario that each machine may have its share of."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one machine left behind."""

    folder: Path
    header: PartHeader
    summary: Summary

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield what its processes reported, in the order in which it came."""
        return read_part(self.folder)[1]


def read_parts(folders: Sequence[Path], name: str, fingerprint: Mapping[str, str]) -> list[Part]:
    """Return the parts of a test of the scenario `name`, ordered by their start.

    Raises:
        BadInputError: every folder that is no part, comes twice, or is of another scenario.
    """
    wrong, parts, seen = Collected(), [], dict[str, Path]()

    def read(folder: Path) -> None:
        header, _ = read_part(folder)
        summary = read_summary(folder)
        other = seen.setdefault(summary.run.run_id, folder)
        if other is not folder:
            raise BadInputError([Problem(f"the same run as {other}", str(folder))])
        if summary.run.scenario != name:
            raise BadInputError([Problem(f"of the scenario {summary.run.scenario}, not {name}", str(folder))])
        differ = [part for part in differing(summary.plan.fingerprint, fingerprint) if part not in OF_THE_PART]
        if differ:
            raise BadInputError([Problem(f"its scenario has other {', '.join(differ)}", str(folder))])
        parts.append(Part(folder, header, summary))

    for folder in folders:
        wrong.attempt(partial(read, folder))
    wrong.end()
    return sorted(parts, key=lambda part: (part.header.started_unix_s, part.summary.run.run_id))


def merge_parts(
    parts: Sequence[Part], run_id: str, load: Load, fingerprint: Mapping[str, str], take: Callable[[Snapshot], None]
) -> Summary:
    """Return the summary of all parts, not yet judged; `take` sees each snapshot as the merged run has it.

    The run begins with the first part, by the machines' wall clocks, to the second; nothing but the place in time of
    what a part did depends on them.
    """
    plan = _plan(parts, fingerprint)
    collector = Collector.of_duration(plan.load_duration_s)
    shards: dict[tuple[int, int], int] = {}
    streams = [_placed(number, part, parts, shards) for number, part in enumerate(parts)]
    for snapshot in heapq.merge(*streams, key=lambda snapshot: snapshot.end_ns):
        collector.add(snapshot)
        take(snapshot)
    for number, part in enumerate(parts):
        for seen in part.summary.shards:
            shard = shards.setdefault((number, seen.shard), len(shards))
            if seen.lost:
                collector.lose(shard, seen.lost)
    for (number, _), shard in shards.items():
        if not collector.shards[shard].final:
            collector.lose(shard, f"{parts[number].folder} does not hold its last report")
    plan = msgspec.structs.replace(plan, processes=len(collector.shards))
    duration_s = max((state.last_ns for state in collector.shards.values()), default=0) / NS_PER_S
    run = _run(parts, run_id, duration_s)
    summary = build_summary(collector, run, plan, load, with_timeline=False)
    planned: dict[int, float] = defaultdict(float)
    for part in parts:
        for point in part.summary.timeline:
            planned[round(point.start_s + point.duration_s) + _after_s(part, parts)] += point.planned
    summary = msgspec.structs.replace(
        summary,
        timeline=list(collector.timeline(planned)),
        series=[*summary.series, *_series_beside(summary, parts)],
        probes=_probes(parts),
    )
    return _recovered(summary, [part.summary.recovery for part in parts if part.summary.recovery is not None])


def _after_s(part: Part, parts: Sequence[Part]) -> int:
    """Return how long after the first one a part began."""
    return round(part.header.started_unix_s - parts[0].header.started_unix_s)


def _placed(number: int, part: Part, parts: Sequence[Part], shards: dict[tuple[int, int], int]) -> Iterator[Snapshot]:
    """Yield a part's snapshots with processes, calls and instants as the merged run has them."""
    after_s = _after_s(part, parts)
    for snapshot in part.snapshots():
        shard = shards.setdefault((number, snapshot.shard), len(shards))
        calls = [
            msgspec.structs.replace(call, index=call.index * len(parts) + number, shard=shard, recording="")
            for call in snapshot.calls
        ]
        yield shifted(msgspec.structs.replace(snapshot, shard=shard, calls=calls), after_s)


def _plan(parts: Sequence[Part], fingerprint: Mapping[str, str]) -> PlanFacts:
    """Return what all parts planned together."""
    plans = [part.summary.plan for part in parts]
    phases = [
        PlannedPhase(
            name=phase.name,
            start_s=phase.start_s,
            duration_s=phase.duration_s,
            rate_start_per_s=math.fsum(each.rate_start_per_s for each in same),
            rate_end_per_s=math.fsum(each.rate_end_per_s for each in same),
            calls=sum(each.calls for each in same),
        )
        for phase, *others in zip(*(plan.phases for plan in plans), strict=False)
        for same in [[phase, *others]]
    ]
    return msgspec.structs.replace(
        plans[0],
        phases=phases,
        calls=sum(plan.calls for plan in plans),
        load_duration_s=max(plan.load_duration_s for plan in plans),
        fingerprint=dict(fingerprint),
    )


def _run(parts: Sequence[Part], run_id: str, duration_s: float) -> RunFacts:
    runs = [part.summary.run for part in parts]
    hosts = sorted({run.environment.get("host", "") for run in runs} - {""})
    return msgspec.structs.replace(
        runs[0],
        run_id=run_id,
        duration_s=duration_s,
        target=", ".join(dict.fromkeys(run.target for run in runs)),
        cut_short="; ".join(f"{run.run_id}: {run.cut_short}" for run in runs if run.cut_short),
        stopped_early="; ".join(f"{run.run_id}: {run.stopped_early}" for run in runs if run.stopped_early),
        doubts=_doubts(parts),
        insecure=any(run.insecure for run in runs),
        environment={
            **runs[0].environment,
            "host": ", ".join(hosts),
            "parts": f"{len(parts)}, begun within {_after_s(parts[-1], parts)} s",
        },
    )


def _doubts(parts: Sequence[Part]) -> list[str]:
    """Return why the parts together are not the test that was planned."""
    found = [f"{part.summary.run.run_id}: {doubt}" for part in parts for doubt in part.summary.run.doubts]
    share = math.fsum(part.header.share for part in parts)
    if abs(share - 1) > SHARE_ERROR_MAX * len(parts):
        found.append(f"the parts are {share:.3g} of the load, not all of it once: is one missing, or too many?")
    first = parts[0].summary
    found += [
        f"{part.summary.run.run_id} began when the load of {first.run.run_id} was over"
        for part in parts
        if _after_s(part, parts) >= first.plan.load_duration_s
    ]
    versions = sorted({part.summary.run.voxload_version for part in parts})
    if len(versions) > 1:
        found.append(f"the parts are of different versions of voxload: {', '.join(versions)}")
    return found


def _series_beside(summary: Summary, parts: Sequence[Part]) -> list[Series]:
    """Return what a part measured beside its calls, such as the target's CPU or scores of recordings, merged."""
    known = set(summary.metrics())
    found: dict[tuple[str, tuple[tuple[str, str], ...]], Histogram] = {}
    for part in parts:
        for series in part.summary.series:
            if series.metric not in known:
                merged = found.setdefault((series.metric, tuple(series.labels.items())), Histogram())
                merged.merge(Histogram.from_data(series.histogram))
    return [Series(metric, dict(labels), histogram.to_data()) for (metric, labels), histogram in found.items()]


def _probes(parts: Sequence[Part]) -> list[ProbeResult]:
    """Return the probes of all parts: each has done all of it, so one of the same name is another's."""
    found: list[ProbeResult] = []
    for part in parts:
        for probe in part.summary.probes:
            same = any(each.name == probe.name for each in found)
            found.append(
                msgspec.structs.replace(probe, name=f"{probe.name} ({part.summary.run.run_id})") if same else probe
            )
    return found


def _recovered(summary: Summary, recoveries: Sequence[Recovery]) -> Summary:
    """Return the summary with the worst of what was seen after the load."""
    if not recoveries:
        return summary
    worst = max(recoveries, key=lambda each: math.inf if each.recovery_time_s is None else each.recovery_time_s)
    levels: dict[str, float] = {}
    for recovery in recoveries:
        for name, value in with_recovery(summary, recovery).levels.items():
            if name in RECOVERY_METRICS:
                levels[name] = max(value, levels.get(name, value))
    if worst.recovery_time_s is None:
        levels.pop("recovery_time", None)
    return msgspec.structs.replace(summary, recovery=worst, levels={**summary.levels, **levels})
