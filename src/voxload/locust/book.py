"""The book of a Locust test's calls: collects what shards report, and writes the results when the test stops."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

from voxload import __version__
from voxload.clock import NS_PER_S, monotonic_ns, utc_now
from voxload.engine import wire
from voxload.errors import ExitCode
from voxload.load.workload import Workload
from voxload.measure.collector import Collector
from voxload.measure.snapshot import Snapshot, shifted
from voxload.measure.summarize import build_summary
from voxload.measure.summary import RunFacts
from voxload.measure.understanding import Understanding
from voxload.model.load import ConcurrencyLoad
from voxload.report.files import write_reports
from voxload.runners.contact import out_of_contact, unreachable_words
from voxload.runners.environment import environment_facts
from voxload.runners.estimate import plan_facts
from voxload.runners.prepare import Prepared
from voxload.runners.results import ResultsFolder
from voxload.verdict.gate import judge
from voxload.verdict.rules import gates_of


class Book:
    """Kept by the master, or by the single process; `close` writes `results/RUN/` and returns the exit code."""

    def __init__(self, prepared: Prepared, results: str, run_time_s: float = 0.0) -> None:
        self._prepared = prepared
        self._folder = ResultsFolder(Path(results) / prepared.plan.run_id)
        self._run_time_s = run_time_s
        self._collector = Collector.of_duration(run_time_s)
        self._started_at = utc_now().isoformat(timespec="seconds")
        self._understanding = Understanding(Workload(prepared.plan).labelled_texts())
        self._starts_ns: dict[int, int] = {}
        """By shard, when it began, as its first report says; the first to report begins the run."""
        self.doubts: list[str] = []

    def take(self, message: wire.FromShard) -> None:
        """Take in what a shard says."""
        if isinstance(message, wire.Failed):
            self._collector.lose(message.shard, message.detail)
        elif isinstance(message, Snapshot):
            judged = self._understanding.complete(shifted(message, self._began_s(message)))
            self._collector.add(judged)
            self._folder.append_calls(judged.calls)

    def _began_s(self, snapshot: Snapshot) -> int:
        """Return how long after the run's start its shard began, in whole seconds: a worker may join in the middle."""
        began_ns = self._starts_ns.setdefault(snapshot.shard, monotonic_ns() - snapshot.end_ns)
        return max(round((began_ns - next(iter(self._starts_ns.values()))) / NS_PER_S), 0)

    def close(self) -> ExitCode:
        """Write the results; prints where they are."""
        prepared, collector = self._prepared, self._collector
        for shard, state in collector.shards.items():
            if not state.final and not state.lost:
                collector.lose(shard, "its last report did not come before Locust ended")
        self._folder.close()
        duration_s = max((state.last_ns for state in collector.shards.values()), default=0) / NS_PER_S
        run = RunFacts(
            run_id=prepared.plan.run_id,
            scenario=prepared.scenario.name,
            description=prepared.scenario.description,
            started_at=self._started_at,
            duration_s=duration_s,
            target=prepared.plan.redact(prepared.plan.target),
            dialect=prepared.scenario.dialect.name,
            seed=prepared.scenario.seed,
            voxload_version=__version__,
            cut_short=unreachable_words(collector) if out_of_contact(collector) else "",
            doubts=self.doubts,
            environment=environment_facts(),
        )
        load = self._load(duration_s)
        placed = replace(prepared, scenario=prepared.scenario.model_copy(update={"load": load}))
        facts = plan_facts(placed, max(len(collector.shards), 1))
        gates = gates_of(prepared.scenario, lambda *_: None)  # they have been checked
        summary = judge(build_summary(collector, run, facts, load), gates)
        paths = write_reports(summary, self._folder.write)
        # standard output is Locust's: with --json it holds nothing else
        print(f"voxload: {summary.verdict.status}; {paths['report.html']}", file=sys.stderr)
        for reason in (*summary.verdict.reasons, *self._folder.losses()):
            print(f"voxload:   {reason}", file=sys.stderr)
        return ExitCode(summary.verdict.exit_code)

    def _load(self, duration_s: float) -> ConcurrencyLoad:
        """Return the load that Locust has placed, not the scenario's: so many callers at once, for so long."""
        seconds = max(math.ceil(min(self._run_time_s or math.inf, duration_s)), 1)
        callers = max([*self._collector.levels(), 1])
        return ConcurrencyLoad.model_validate(
            {"shape": "concurrency", "concurrency": callers, "duration": f"{seconds}s"}
        )
