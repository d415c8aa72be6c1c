"""Runs and baselines side by side: every figure, as a whole and by label, with the difference from the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from voxload.errors import BadInputError, Problem
from voxload.measure.comparison import ComparedFigure, Comparison, SideChange, SideFacts
from voxload.model.metric import METRICS
from voxload.verdict.bootstrap import REPLICATES, Figure, on_scale
from voxload.verdict.difference import Difference, differences
from voxload.verdict.gate import PROBE
from voxload.verdict.regression import display, percent
from voxload.verdict.subject import Subject, figures_of

METHOD = "cluster bootstrap over calls; the 95 % intervals of all figures of a side hold together (max-T)"
LABEL_VALUES_MAX = 40

Labels = tuple[tuple[str, str], ...]


def compare(
    subjects: Sequence[Subject],
    facts: Sequence[SideFacts],
    by: Sequence[str] = (),
    metrics: Sequence[str] = (),
    notes: Sequence[str] = (),
    replicates: int = REPLICATES,
) -> Comparison:
    """Return all figures of the subjects beside each other, then those of each probe.

    `by` names labels, `metrics` chooses some.

    Raises:
        BadInputError: a label is unknown to every side, or known to some only; a metric has no data.
    """
    own = [name for name in METRICS if any(name in subject.metrics() for subject in subjects)]
    probed = dict.fromkeys(each for subject in subjects for each in subject.probe_metrics())
    present = [name for name in METRICS if name in own or any(name == metric for _, metric in probed)]
    problems = [
        Problem(f"--metric: {name!r} has no data here", suggestion=f"there are {', '.join(present)}")
        for name in metrics
        if name not in present
    ]
    parts = {label: _label_values(subjects, facts, label, problems) for label in by if label != PROBE}
    if problems:
        raise BadInputError(problems)
    wanted = [(metric, labels) for metric in own for labels in _parts_of(metric, parts)]
    wanted += [(metric, ((PROBE, probe),)) for probe, metric in probed]
    figures = [
        figure for metric, labels in wanted if not metrics or metric in metrics for figure in figures_of(metric, labels)
    ]
    first, *others = subjects
    found = [differences(first, other, figures, replicates) for other in others]
    rows = [_row(figure, [each[at] for each in found]) for at, figure in enumerate(figures)]
    return Comparison(list(facts), [row for row in rows if _has_data(row)], list(notes), METHOD)


def _has_data(row: ComparedFigure) -> bool:
    return any(value is not None for value in row.values)


def _parts_of(metric: str, parts: dict[str, list[str]]) -> list[Labels]:
    """Return the labels under which a metric is shown: none, then each value of each label."""
    if METRICS[metric].kind == "level":
        return [()]
    return [(), *(((label, value),) for label, values in parts.items() for value in values)]


def _label_values(
    subjects: Sequence[Subject], facts: Sequence[SideFacts], label: str, problems: list[Problem]
) -> list[str]:
    found: dict[str, None] = {}
    known = sorted({name for subject in subjects for series in subject.series for name in series.labels} - {"shard"})
    if label not in known:
        problems.append(Problem(f"--by: no value has the label {label!r}", suggestion=f"there are {', '.join(known)}"))
        return []
    for subject, side in zip(subjects, facts, strict=True):
        values = dict.fromkeys(series.labels[label] for series in subject.series if label in series.labels)
        if not values:
            hint = "a baseline keeps call and phase; compare the folders of runs" if side.kind == "baseline" else ""
            problems.append(Problem(f"--by: {side.name} has no label {label!r}", suggestion=hint))
        found |= values
    return list(found)[:LABEL_VALUES_MAX] if len(found) > 1 else []


def _row(figure: Figure, found: Sequence[Difference]) -> ComparedFigure:
    factor, unit = display(figure.metric)
    values = [found[0].before, *(each.after for each in found)]
    return ComparedFigure(
        figure=str(figure),
        metric=figure.metric,
        aggregate=figure.aggregate,
        labels=dict(figure.labels),
        unit=unit,
        values=[None if value is None else value * factor for value in values],
        counts=[found[0].count_before, *(each.count_after for each in found)],
        changes=[_change(figure, each) for each in found],
    )


def _change(figure: Figure, item: Difference) -> SideChange:
    interval = item.interval
    unit: Literal["%", "points"] = "%" if figure.logarithmic else "points"
    if interval is None:
        change = None
        if item.before is not None and item.after is not None:
            change = percent(figure, on_scale(figure, item.after) - on_scale(figure, item.before))
        return SideChange("unknown", change, None, None, unit, item.reason)
    word: Literal["worse", "better", "same"] = "same"
    if not interval.low <= 0 <= interval.high:
        word = "worse" if (interval.change > 0) == (METRICS[figure.metric].better == "lower") else "better"
    low, high = percent(figure, interval.low), percent(figure, interval.high)
    return SideChange(word, percent(figure, interval.change), low, high, unit)
