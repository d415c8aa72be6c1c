"""Makes the summary of a run from what the collector holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from voxload.measure.collector import Collector
from voxload.measure.summary import (
    SUMMARY_VERSION,
    PlanFacts,
    RunFacts,
    Summary,
    TimelinePoint,
    Verdict,
)
from voxload.model.load import ConcurrencyLoad, Load, Phase
from voxload.model.metric import SCALE
from voxload.model.outcome import Outcome

NS_PER_S = 1e9


def build_summary(
    collector: Collector, run: RunFacts, plan: PlanFacts, load: Load, with_timeline: bool = True
) -> Summary:
    """Return the summary of a run, not yet judged; the time line is most of it (`timeline_of` has its points)."""
    return Summary(
        version=SUMMARY_VERSION,
        run=run,
        plan=plan,
        totals=collector.totals(),
        levels={**_levels(collector, load_s(run, plan)), **_token_levels(collector, run, load_s(run, plan))},
        series=collector.series(),
        timeline=list(timeline_of(collector, load)) if with_timeline else [],
        shards=collector.shard_health(),
        errors=collector.errors(),
        worst_calls=collector.worst_calls(),
        gates=[],
        cost=dict(collector.costs),
        verdict=Verdict("unknown", 4, ["not yet judged"]),
    )


def timeline_of(collector: Collector, load: Load) -> Iterator[TimelinePoint]:
    """Yield the points of the time line, with what the load planned for each."""
    duration = collector.histogram("call_duration")
    setup = collector.histogram("call_setup_uncorrected")
    whole = collector.histogram("operation_latency_uncorrected")  # a component test: all of it
    mean_call_s = (whole.mean or (duration.mean or 0.0) + (setup.mean or 0.0)) / NS_PER_S
    seconds = len(collector.levels()) + collector.stretch_s
    ends = range(0, seconds + 1, collector.stretch_s)
    return collector.timeline({second: planned_level(load, float(second), mean_call_s) for second in ends})


def load_s(run: RunFacts, plan: PlanFacts) -> float:
    """Return for how long load was placed: as planned, or until the run was cut short or a condition ended it."""
    ended_early = run.cut_short or run.stopped_early
    return min(plan.load_duration_s, run.duration_s) if ended_early else plan.load_duration_s


def _levels(collector: Collector, placed_s: float) -> dict[str, float]:
    levels: dict[str, float] = {}
    attempted = collector.attempted()
    if attempted:
        levels["calls"] = float(attempted)
        if placed_s:
            levels["arrival_rate"] = attempted / placed_s
    completed = collector.outcomes[Outcome.COMPLETED]
    if attempted and placed_s:
        levels["throughput"] = completed / placed_s
    if collector.costs and completed:
        levels["cost_per_call"] = sum(collector.costs.values()) / completed
    if collector.levels():
        levels["concurrent_calls"] = float(collector.sustained_level())
        levels["peak_calls"] = float(max(collector.levels()))
    return levels


def _token_levels(collector: Collector, run: RunFacts, placed_s: float) -> dict[str, float]:
    levels: dict[str, float] = {}
    prompts, completions = collector.histogram("prompt_tokens"), collector.histogram("completion_tokens")
    if completions.count and run.duration_s:
        levels["tokens_per_minute"] = (prompts.total + completions.total) / SCALE / run.duration_s * 60
        levels["requests_per_minute"] = completions.count / run.duration_s * 60
        levels["output_token_throughput"] = completions.total / SCALE / run.duration_s
    met = collector.histogram("slo_met")
    if met.count and placed_s:
        levels["goodput"] = met.total / SCALE / placed_s
    return levels


def planned_level(load: Load, at_s: float, mean_call_s: float) -> float:
    """Return the calls that should be up at `at_s` if every call took `mean_call_s` (Little's law, over time)."""
    if isinstance(load, ConcurrencyLoad):
        if at_s > load.duration_ns / NS_PER_S:
            return 0.0
        ramp_s = load.ramp_up_ns / NS_PER_S
        return load.concurrency * (min(at_s / ramp_s, 1.0) if ramp_s else 1.0)
    phases = load.phases()
    return intended_calls(phases, at_s) - intended_calls(phases, at_s - mean_call_s)


def intended_calls(phases: Sequence[Phase], at_s: float) -> float:
    """Return how many calls are to start before `at_s`: the area under the arrival rate."""
    total, start_s = 0.0, 0.0
    for phase in phases:
        length_s = phase.duration_ns / NS_PER_S
        inside_s = min(max(at_s - start_s, 0.0), length_s)
        slope = (phase.rate_end_per_s - phase.rate_start_per_s) / length_s if length_s else 0.0
        total += phase.rate_start_per_s * inside_s + slope * inside_s**2 / 2
        start_s += length_s
    return total
