"""What callers lived through, in the order in which they would tell it: every voice metric beside its target."""

from __future__ import annotations

from typing import NamedTuple

from voxload.measure.histogram import Histogram
from voxload.measure.series import Series
from voxload.measure.summary import Summary
from voxload.model.metric import METRICS, SCALE
from voxload.model.outcome import Outcome
from voxload.report import text
from voxload.report.targets import GROUPS, Target, higher_is_better, kind_of, targets_of, tone_of
from voxload.report.view import Sign

LABEL_KEYS = ("target", "turn", "persona", "phase", "region", "call")
"""Labels in the order in which they are shown; others follow."""
LABEL_VALUES_MAX = 24
_SHARES = {"p50": 0.5, "p95": 0.95, "max": 1.0}
SIGNS = {
    "good": Sign("✓", "on target", "good"),
    "unsure": Sign("!", "off target", "unsure"),
    "bad": Sign("✗", "critical", "bad"),
    "few": Sign("?", "too few", ""),
}
NOTE = (
    "Targets are reference values of the field (see the documentation of metrics), not gates: "
    "only gates decide the verdict."
)


class Bullet(NamedTuple):
    """A value on a scale with the good, off-target and critical ranges: positions and widths in percent."""

    at: float
    zones: tuple[tuple[float, float, str], ...]
    """(left, width, tone)."""


class VoiceRow(NamedTuple):
    """One figure of one metric, over all labels or one; `sign` is None where there is no target."""

    metric: str
    title: str
    label: str
    aggregate: str
    value: str
    target: str
    critical: str
    sign: Sign | None
    observations: str
    detail: str
    bullet: Bullet | None


class VoiceGroup(NamedTuple):
    """The rows of one question: over all labels, and by single labels."""

    key: str
    title: str
    question: str
    rows: tuple[VoiceRow, ...]
    parts: tuple[VoiceRow, ...]
    labels: tuple[str, ...]
    """Names of the labels that `parts` is by."""

    def parts_by_metric(self) -> list[tuple[str, list[VoiceRow]]]:
        """Return the rows of single labels, metric by metric."""
        found: dict[str, list[VoiceRow]] = {}
        for row in self.parts:
            found.setdefault(row.metric, []).append(row)
        return list(found.items())


def voice_groups(summary: Summary) -> list[VoiceGroup]:
    """Return the groups that have data; ratios and scores outside the catalogue's groups come last."""
    by_metric: dict[str, list[Series]] = {}
    for series in summary.series:
        if series.histogram.count:
            by_metric.setdefault(series.metric, []).append(series)
    known = {metric for group in GROUPS for metric in group.metrics}
    others = tuple(name for name in by_metric if name not in known and kind_of(name) in {"ratio", "score"})
    found = []
    for key, title, question, metrics in (
        *GROUPS,
        ("other", "Also measured", "Ratios and scores beside the voice", others),
    ):
        rows = [row for metric in metrics for row in _whole_rows(summary, metric, by_metric.get(metric, []))]
        parts, labels = _part_rows([(metric, by_metric.get(metric, [])) for metric in metrics])
        if rows:
            found.append(VoiceGroup(key, title, question, tuple(rows), tuple(parts), tuple(labels)))
    return found


def _whole_rows(summary: Summary, metric: str, series: list[Series]) -> list[VoiceRow]:
    histogram = _merged(series)
    if histogram.count:
        rows = [_row(metric, histogram, target, "") for target in targets_of(metric)]
        scales = sorted({text.clean(item.labels["scale"], 40) for item in series if "scale" in item.labels})
        note = f"scale: {' and '.join(scales)}; " if scales else ""
        return [row._replace(detail=note + row.detail) for row in rows]
    if metric in summary.levels:
        return [_level_row(metric, summary.levels[metric])]
    return []


def _part_rows(metrics: list[tuple[str, list[Series]]]) -> tuple[list[VoiceRow], list[str]]:
    """Return a row for each value of each label that has several, metric by metric, and the names of the labels."""
    rows: list[VoiceRow] = []
    names: dict[str, None] = {}
    for metric, series in metrics:
        values: dict[str, dict[str, list[Series]]] = {}
        for item in series:
            for key, value in item.labels.items():
                values.setdefault(key, {}).setdefault(value, []).append(item)
        for key in sorted(values, key=_label_order):
            if len(values[key]) > 1:
                names[text.clean(key, 40)] = None
                for value, part in list(values[key].items())[:LABEL_VALUES_MAX]:
                    label = f"{text.clean(key, 40)}: {text.clean(value, 60)}"
                    rows.append(_row(metric, _merged(part), targets_of(metric)[-1], label))
    return rows, sorted(names, key=_label_order)


def _label_order(key: str) -> tuple[int, str]:
    return LABEL_KEYS.index(key) if key in LABEL_KEYS else len(LABEL_KEYS), key


def _merged(series: list[Series]) -> Histogram:
    result = Histogram()
    for item in series:
        result.merge(Histogram.from_data(item.histogram))
    return result


def shown(metric: str, value: float | None, unit_too: bool = True) -> str:
    """Return a value of a metric (s, 0 to 1, or its own unit) as reports write it; scores may go without their unit."""
    if value is None:
        return text.MISSING
    if metric == "cost_per_call":
        return text.money(value)
    kind = kind_of(metric)
    if kind == "latency":
        return text.nanoseconds(value * SCALE)
    unit = METRICS[metric].unit
    return (
        text.percent(value)
        if kind == "ratio" or unit == "share"
        else text.with_unit(value, unit if unit_too or unit == "USD" else "")
    )


def _row(metric: str, histogram: Histogram, target: Target, label: str) -> VoiceRow:
    kind, count = kind_of(metric), histogram.count
    raw = histogram.quantile(_SHARES[target.aggregate]) if target.aggregate in _SHARES else histogram.mean
    value = (raw or 0.0) / SCALE
    few = count < text.OBSERVATIONS_MIN
    if kind == "ratio":
        part = histogram.total / SCALE
        written = text.rate(round(part), count) if few and part == round(part) else text.percent(value)
        detail = "" if few or part != round(part) else f"{text.number(round(part))} of {text.number(count)}"
    else:
        written = shown(metric, value)
        low, high = float(histogram.minimum), float(histogram.maximum)
        spread = [("p50", histogram.quantile(0.5)), ("max", high)]
        if higher_is_better(metric):
            spread = [("p5", histogram.quantile(0.05)), ("min", low)]
        detail = ", ".join(
            f"{name} {shown(metric, (at or 0) / SCALE, False)}" for name, at in spread if name != target.aggregate
        )
    tone = tone_of(metric, value, target)
    sign = SIGNS["few" if few else tone] if tone else None
    bullet = _bullet(metric, value, target) if tone and not few else None
    return _made(metric, label, target, written, sign, text.number(count), detail, bullet)


def _level_row(metric: str, value: float) -> VoiceRow:
    target = targets_of(metric)[-1]
    tone = tone_of(metric, value, target)
    sign, bullet = (SIGNS[tone], _bullet(metric, value, target)) if tone else (None, None)
    return _made(metric, "", target, shown(metric, value), sign, "", "", bullet)


def _made(
    metric: str,
    label: str,
    target: Target,
    written: str,
    sign: Sign | None,
    observations: str,
    detail: str,
    bullet: Bullet | None,
) -> VoiceRow:
    better, worse = ("≥", "<") if higher_is_better(metric) else ("≤", ">")
    return VoiceRow(
        metric,
        text.title(metric),
        label,
        target.aggregate if target.aggregate in _SHARES or target.aggregate == "mean" else "",
        written,
        f"{better} {shown(metric, target.target, False)}" if target.target is not None else "",
        f"{worse} {shown(metric, target.critical, False)}" if target.critical is not None else "",
        sign,
        observations,
        detail,
        bullet,
    )


def _bullet(metric: str, value: float, target: Target) -> Bullet | None:
    """Return the drawing of a value: the target a third to two thirds along, the value always on the scale."""
    if target.target is None:
        return None
    goal = target.target
    edge = target.critical if target.critical is not None else goal
    if higher_is_better(metric):
        room = abs(goal - edge) or abs(1 - goal) or 1.0
        low = min(value, edge) - 0.4 * room
        high = max(value, goal) + 0.4 * room
        if kind_of(metric) == "ratio":
            low, high = max(low, 0.0), min(high, 1.0)
        bounds = [(low, edge, "bad"), (edge, goal, "unsure"), (goal, high, "good")]
    else:
        low, high = 0.0, max(value, edge, goal) * 1.25 or 1.0
        bounds = [(0.0, goal, "good"), (goal, edge, "unsure"), (edge, high, "bad")]
        if target.critical is None:
            bounds = [(0.0, goal, "good"), (goal, high, "unsure")]
    if target.critical is None and higher_is_better(metric):
        bounds = [(low, goal, "unsure"), (goal, high, "good")]

    def place(at: float) -> float:
        return round(100 * (at - low) / (high - low), 2) if high > low else 0.0

    zones = tuple((place(a), round(place(b) - place(a), 2), tone) for a, b, tone in bounds if b > a)
    return Bullet(place(value), zones)


class CostRow(NamedTuple):
    """What one item cost; `width` in percent of the dearest one."""

    item: str
    amount: str
    share: str
    per_call: str
    width: float


def cost_rows(summary: Summary) -> list[CostRow]:
    """Return the items of the run's cost, the dearest first, and their total last; per call means per completed one."""
    items = sorted(((name, amount) for name, amount in summary.cost.items() if amount > 0), key=lambda item: -item[1])
    total, completed = sum(amount for _, amount in items), summary.totals.outcomes.get(Outcome.COMPLETED, 0)
    if not items or not total:
        return []
    return [
        CostRow(
            text.title(name),
            text.money(amount),
            text.percent(amount / total),
            text.money(amount / completed if completed else None),
            round(100 * amount / items[0][1], 2) if number < len(items) else 0.0,
        )
        for number, (name, amount) in enumerate([*items, ("total", total)])
    ]
