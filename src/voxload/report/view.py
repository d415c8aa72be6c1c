"""What every report shows of a summary: headline figures, notices, and table rows, written once for all of them."""

from __future__ import annotations

from typing import NamedTuple

from voxload.measure.histogram import Histogram, rank_of
from voxload.measure.recovery import recovery_findings
from voxload.measure.summary import GateResult, Summary
from voxload.model.metric import METRICS, SCALE
from voxload.model.outcome import NOT_ATTEMPTED, Outcome
from voxload.report import text

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
LATENCY_COLUMNS = ("min", "mean", "p50", "p90", "p95", "p99", "p99.9", "max")
LABEL_VALUES_MAX = 24
"""Rows of one label that a latency table shows at most."""


class Sign(NamedTuple):
    """A state as an icon and a word, so that nobody needs colours to read it; `tone` names the colour."""

    icon: str
    word: str
    tone: str


VERDICT_SIGNS = {
    "passed": Sign("✓", "Passed", "good"),
    "failed": Sign("✗", "Failed", "bad"),
    "unknown": Sign("?", "Unknown", "unsure"),
    "aborted": Sign("■", "Aborted", "unsure"),
}
GATE_SIGNS = {
    "pass": Sign("✓", "pass", "good"),
    "fail": Sign("✗", "fail", "bad"),
    "unknown": Sign("?", "unknown", "unsure"),
}
WARNING_SIGN = Sign("!", "warn", "unsure")
"""A gate of severity `warn` that does not pass: it is shown, and decides nothing."""


class Figure(NamedTuple):
    """One headline figure; `tone` is empty, `good`, `bad` or `unsure`."""

    key: str
    label: str
    value: str
    detail: str
    tone: str = ""


class Notice(NamedTuple):
    """Something that a reader must know to read the numbers rightly."""

    tone: str
    title: str
    body: str


class GateRow(NamedTuple):
    """One gate, ready to show."""

    sign: Sign
    name: str
    expression: str
    actual: str
    threshold: str
    margin: str
    """How far on the good side of the threshold; negative beyond it."""
    sample_size: str
    reason: str


class TargetRow(NamedTuple):
    """One of several targets, ready to show."""

    name: str
    calls: str
    success: str
    turn_p50: str
    turn_p95: str
    setup_p95: str


class LatencyRow(NamedTuple):
    """One distribution: `cells` follow `LATENCY_COLUMNS`.

    `weak` marks the cells whose percentile needs more observations than there are; they equal the maximum.
    """

    metric: str
    title: str
    label: str
    observations: int
    cells: tuple[str, ...]
    weak: tuple[bool, ...]


class OutcomeRow(NamedTuple):
    """How many calls ended in one way."""

    outcome: str
    title: str
    meaning: str
    calls: int
    share: str
    tone: str


def verdict_sentence(summary: Summary) -> str:
    """Return the verdict in one plain sentence."""
    deciding, what = [gate for gate in summary.gates if gate.severity == "fail"], subject(summary)
    total = len(deciding)
    failed = sum(gate.status == "fail" for gate in deciding)
    unknown = sum(gate.status == "unknown" for gate in deciding)
    gates = text.counted(total, "gate")
    worse = len(summary.baseline.regressions) if summary.baseline is not None else 0
    match summary.verdict.status:
        case "passed" if not total and summary.baseline is None:
            return f"The run is sound, but no gate was set, so the {what} was not judged."
        case "passed":
            passed = ["the gate passed" if total == 1 else f"all {gates} passed"] if total else []
            passed += ["nothing is worse than the baseline"] if summary.baseline is not None else []
            return f"The {what} is good enough: {', and '.join(passed)}."
        case "failed":
            reasons = ["a condition ended the run early"] if summary.run.stopped_early else []
            reasons += [f"{failed} of {gates} failed"] if failed else []
            reasons += [f"{text.counted(worse, 'figure')} worse than the baseline"] if worse else []
            return f"The {what} is not good enough: {', and '.join(reasons)}."
        case "aborted":
            reason = text.clean(summary.run.cut_short)
            return f"The run was cut short{f' ({reason})' if reason else ''}, so it says little about the {what}."
        case _ if unknown:
            return f"No verdict: {unknown} of {gates} could not be judged. This neither clears nor blames the {what}."
        case _ if summary.baseline is not None and summary.baseline.status == "unknown" and not total:
            return f"No verdict: the check against the baseline is unknown. This neither clears nor blames the {what}."
        case _:
            return f"No verdict: the run cannot be trusted. This neither clears nor blames the {what}."


def subject(summary: Summary) -> str:
    """Return what was tested: `agent`, or `service` in a component test."""
    return "service" if summary.plan.component else "agent"


def gate_rows(summary: Summary) -> list[GateRow]:
    """Return the gates, failed ones first, then unknown, then passed; otherwise in the order of the scenario."""
    order = ("fail", "unknown", "pass")
    return [_gate_row(gate) for gate in sorted(summary.gates, key=lambda gate: order.index(gate.status))]


def _gate_row(gate: GateResult) -> GateRow:
    actual, threshold = text.gate_values(gate)
    size = text.number(gate.sample_size)
    expression, name, reason = text.clean(gate.expression), text.clean(gate.name), text.clean(gate.reason)
    sign = GATE_SIGNS[gate.status]
    if gate.severity == "warn" and gate.status != "pass":
        sign = WARNING_SIGN
    margin = text.MISSING if gate.margin is None else text.signed(gate.margin, gate.unit)
    return GateRow(sign, name, expression, actual, threshold, margin, size, reason)


def target_rows(summary: Summary) -> list[TargetRow]:
    """Return the targets of a run that had several, in order of name."""
    names = sorted({series.labels["target"] for series in summary.series if "target" in series.labels})
    return [_target_row(summary, name) for name in names]


def _target_row(summary: Summary, name: str) -> TargetRow:
    labels = {"target": name}
    success = summary.histogram("call_success", labels)
    turns, setup = summary.histogram("turn_latency", labels), summary.histogram("call_setup", labels)

    def at(histogram: Histogram, fraction: float) -> str:
        value_ns = histogram.quantile(fraction)
        return text.MISSING if value_ns is None else text.milliseconds(value_ns / 1e6)

    good = round((success.mean or 0.0) / SCALE * success.count)
    return TargetRow(
        text.clean(name),
        text.number(success.count),
        text.rate(good, success.count) if success.count else text.MISSING,
        at(turns, 0.5),
        at(turns, 0.95),
        at(setup, 0.95),
    )


def headline(summary: Summary) -> list[Figure]:
    """Return the figures that every report opens with."""
    levels = summary.levels
    held = levels.get("concurrent_calls")
    detail = f"{text.number(held)} held for 5 s" if held is not None else "no level was held for 5 s"
    return [
        _calls_figure(summary),
        _success_figure(summary),
        Figure("peak_calls", "Peak concurrency", text.number(levels.get("peak_calls")), detail),
        *_latency_figures(summary),
        _lateness_figure(summary),
    ]


def _calls_figure(summary: Summary) -> Figure:
    planned = summary.plan.calls
    detail = f"{text.number(planned)} planned" if summary.plan.model == "open" else "closed load"
    apart = sum(summary.totals.outcomes.get(outcome, 0) for outcome in NOT_ATTEMPTED)
    detail += f", {text.number(apart)} counted apart" if apart else ""
    title = "Units of work" if summary.plan.component not in {"", "acs"} else "Calls"
    return Figure("calls", title, text.number(summary.totals.attempted), detail)


def _success_figure(summary: Summary) -> Figure:
    attempted, completed = summary.totals.attempted, summary.totals.outcomes.get(Outcome.COMPLETED, 0)
    if not attempted:
        return Figure("call_success", "Success", text.MISSING, "no call was attempted")
    detail = f"{text.number(completed)} of {text.number(attempted)} completed"
    return Figure("call_success", "Success", text.rate(completed, attempted), detail)


def _latency_figures(summary: Summary) -> list[Figure]:
    """Return p50, p95 and p99 of the latency that the run is about, and p95 of the others that it names."""
    first, *others = summary.plan.headline
    quantiles = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    chosen = [(first, name, share) for name, share in quantiles] + [(metric, "p95", 0.95) for metric in others]
    figures = []
    for metric, name, share in chosen:
        histogram, noun = summary.histogram(metric), "turn" if metric == "turn_latency" else "value"
        detail = text.counted(histogram.count, noun) if histogram.count else f"no {noun} was measured"
        value = text.nanoseconds(histogram.quantile(share))
        key = f"{metric.removesuffix('_latency')}_{name}"
        figures.append(Figure(key, f"{text.title(metric)} {name}", value, detail))
    return figures


def lateness_p99_ms(summary: Summary) -> float | None:
    """Return the generator's own lateness at p99 over all processes; without a series, that of the worst process."""
    quantile_ns = summary.lateness().quantile(0.99)
    if quantile_ns is not None:
        return quantile_ns / 1e6
    return max((shard.lateness_p99_ms for shard in summary.shards if shard.lateness_p99_ms is not None), default=None)


def _lateness_figure(summary: Summary) -> Figure:
    late_ms, limit_ms = lateness_p99_ms(summary), summary.plan.lateness_limit_ms
    limit = f"limit {limit_ms:g} ms"
    if late_ms is None:
        return Figure("lateness_p99", "Lateness p99", text.MISSING, "nothing was sent")
    kept = late_ms <= limit_ms
    detail = f"{limit}, {'kept' if kept else 'not kept'}"
    return Figure("lateness_p99", "Lateness p99", text.milliseconds(late_ms), detail, "" if kept else "unsure")


def notices(summary: Summary) -> list[Notice]:
    """Return what limits or colours the numbers, the gravest first."""
    return [
        *_run_notices(summary),
        *_recovery_notices(summary),
        *_count_notices(summary),
        *_load_notices(summary),
    ]


def _recovery_notices(summary: Summary) -> list[Notice]:
    found = recovery_findings(summary.recovery) if summary.recovery is not None else []
    return [Notice(finding.tone, finding.title, text.clean(finding.body, 400)) for finding in found]


def _run_notices(summary: Summary) -> list[Notice]:
    found = []
    if summary.run.insecure:
        body = "TLS certificates were not verified: the numbers may be those of another server than the target."
        found.append(Notice("bad", "Insecure", body))
    if summary.run.cut_short:
        done, planned = summary.run.duration_s, summary.plan.load_duration_s
        body = (
            f"{text.clean(summary.run.cut_short)}. It lasted {text.milliseconds(done * 1e3)}; "
            f"the plan was a load of {text.milliseconds(planned * 1e3)}."
        )
        found.append(Notice("unsure", "The run was cut short", body))
    for shard in summary.shards:
        if shard.lost:
            body = f"Process {shard.shard}: {text.clean(shard.lost)}. Its numbers are incomplete."
            found.append(Notice("unsure", "A generator process was lost", body))
    late_ms, limit_ms = lateness_p99_ms(summary), summary.plan.lateness_limit_ms
    if late_ms is not None and late_ms > limit_ms:
        what = "event loop was" if summary.plan.component else "frames were"
        body = (
            f"Its {what} late by {text.milliseconds(late_ms)} at p99, beyond the limit of "
            f"{limit_ms:g} ms, so the delays below may be its own. "
            "Use more processes or machines, or fewer calls."
        )
        found.append(Notice("unsure", "The generator did not keep time", body))
    return found


def _count_notices(summary: Summary) -> list[Notice]:
    totals, what, found = summary.totals, subject(summary), []
    shed = totals.outcomes.get(Outcome.SHED, 0)
    if shed:
        body = f"{text.counted(shed, 'call')} could not be started by the generator. The {what} is not blamed for them."
        found.append(Notice("unsure", "Calls were shed", body))
    internal = totals.outcomes.get(Outcome.INTERNAL_ERROR, 0)
    if internal:
        body = f"{text.counted(internal, 'call')} ended on a defect of voxload, not of the {what}. Please report it."
        found.append(Notice("unsure", "Internal errors", body))
    if totals.frames_dropped:
        offered = totals.frames_sent + totals.frames_dropped
        body = (
            f"{text.counted(totals.frames_dropped, 'frame')} of {text.number(offered)} "
            f"({text.rate(totals.frames_dropped, offered)}) could not be sent, because the target did not read them."
        )
        found.append(Notice("unsure", "Frames were dropped", body))
    return found


def _load_notices(summary: Summary) -> list[Notice]:
    if summary.plan.model == "open":
        return []
    body = (
        f"Each caller waits for its call to end before it calls again, so the load falls when the {subject(summary)} "
        "slows down. "
        "That hides part of the delay that independent callers would see (coordinated omission). "
        "Use an arrival rate to measure what they would."
    )
    return [Notice("info", "Closed load", body)]


UNCORRECTED_NOTE = (
    "Uncorrected figures start the clock when the call or the audio was really sent. They leave out the wait before "
    "that, and so hide delay whenever the generator or the target falls behind. Set gates on corrected figures."
)


def outcome_rows(summary: Summary) -> list[OutcomeRow]:
    """Return the outcomes that occurred, in the order of the catalogue."""
    counts = {outcome: count for outcome, count in summary.totals.outcomes.items() if count}
    known = [outcome.value for outcome in Outcome if outcome in counts]
    total = sum(counts.values())
    return [
        OutcomeRow(
            text.clean(name),
            text.title(name),
            text.outcome_meaning(name, component=bool(summary.plan.component)),
            counts[name],
            text.rate(counts[name], total),
            outcome_tone(name),
        )
        for name in known + sorted(counts.keys() - set(known))
    ]


def outcome_tone(outcome: str) -> str:
    """Return the tone of an outcome: good, unsure (says nothing of the target) or bad."""
    if outcome == Outcome.COMPLETED:
        return "good"
    return "unsure" if outcome in NOT_ATTEMPTED else "bad"


def metric_order(summary: Summary) -> list[str]:
    """Return the latency metrics that have data: those of the catalogue in its order, then the others."""
    present = summary.latency_metrics()
    return [name for name in METRICS if name in present] + [name for name in present if name not in METRICS]


def latency_rows(summary: Summary) -> list[LatencyRow]:
    """Return each latency metric over all labels, then by each value of each label that has more than one."""
    rows = []
    for metric in metric_order(summary):
        whole = summary.histogram(metric)
        if not whole.count:
            continue
        rows.append(_latency_row(metric, "", whole))
        for key, values in _label_values(summary, metric).items():
            # of stages the name alone says what was measured
            for value in values[:LABEL_VALUES_MAX] if len(values) > 1 or key == metric else ():
                label = f"{text.clean(key)}: {text.clean(value, 60)}"
                rows.append(_latency_row(metric, label, summary.histogram(metric, {key: value})))
    return rows


def _label_values(summary: Summary, metric: str) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for series in summary.series:
        if series.metric == metric and series.histogram.count:
            for key, value in series.labels.items():
                found.setdefault(key, {})[value] = None
    return {key: list(values) for key, values in found.items()}


def _latency_row(metric: str, label: str, histogram: Histogram) -> LatencyRow:
    count = histogram.count
    shares = [histogram.quantile(share) for share in QUANTILES]
    values = (float(histogram.minimum), histogram.mean, *shares, float(histogram.maximum))
    weak = (False, False, *(rank_of(share, count) == count for share in QUANTILES), False)
    return LatencyRow(metric, text.title(metric), label, count, tuple(map(text.nanoseconds, values)), weak)
