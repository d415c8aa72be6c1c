"""The terminal: a live view of a run, plain lines where there is no terminal, and the summary at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from voxload.measure.progress import Progress
from voxload.measure.series import Quantiles
from voxload.measure.summary import Summary
from voxload.model.outcome import Outcome
from voxload.report import text, view, voice
from voxload.report.calls import call_in_words, problems_of
from voxload.report.changes import print_changes
from voxload.report.ci import defused
from voxload.report.probes import probe_rows

PLAIN_INTERVAL_S = 5.0
_STYLES = {"good": "green", "bad": "red", "unsure": "yellow", "info": "cyan", "": ""}
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.-=+*#@"
_ASCII = str.maketrans(
    {"✓": "+", "✗": "x", "■": "#", "—": "-", "…": "...", "→": "->", "µ": "u", "·": "-", "÷": "/", "≤": "<=", "≥": ">="}
    | dict(zip(_BARS, _ASCII_BARS, strict=True))
)
ERRORS_MAX = 5
WORST_MAX = 5


class LiveView:
    """Shows the progress of a run until it is left; a context manager.

    On an interactive terminal it redraws in place. Elsewhere (a file, a CI log, a dumb terminal) it writes one plain
    line every `PLAIN_INTERVAL_S` of the run, without colours or control codes.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._last: Progress | None = None
        self._due_s = 0.0
        self._message = ""

    def __enter__(self) -> LiveView:
        if self._console.is_interactive and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._last is not None:
            self._write(self._last)

    def update(self, progress: Progress) -> None:
        """Show how far the run has come; may be called as often as one likes."""
        if self._live is not None:
            self._live.update(live_panel(progress, self._console), refresh=True)
            return
        self._last = progress
        if progress.elapsed_s >= self._due_s or progress.message != self._message:
            self._due_s = progress.elapsed_s + PLAIN_INTERVAL_S
            self._write(progress)

    def _write(self, progress: Progress) -> None:
        self._last, self._message = None, progress.message
        line = _fit(self._console, plain_line(progress))
        self._console.print(line, markup=False, highlight=False, soft_wrap=True, style=None)
        self._console.file.flush()


def plain_line(progress: Progress) -> str:
    """Return the progress as one line of plain text."""
    parts = [
        f"{progress.elapsed_s:.0f} s",
        f"active {progress.active}",
        f"started {progress.started}",
        f"completed {progress.completed}",
        f"failed {progress.failed}",
    ]
    if progress.shed:
        parts.append(f"shed {progress.shed}")
    parts.append(
        f"{_short_name(progress.metric)} p95 {text.milliseconds(progress.turn.p95_ms if progress.turn else None)}"
    )
    parts.append(f"lateness p99 {text.milliseconds(progress.lateness_p99_ms)}")
    if progress.message:
        parts.append(text.clean(progress.message))
    return "  ".join(parts)


def sparkline(values: list[int] | list[float], width: int) -> str:
    """Return the last `width` values as a row of bars, from 0 to the largest of them."""
    shown = values[-width:] if width > 0 else []
    top = max(shown, default=0)
    if top <= 0:
        return _BARS[0] * len(shown)
    return "".join(_BARS[min(int(max(value, 0) / top * len(_BARS)), len(_BARS) - 1)] for value in shown)


def live_panel(progress: Progress, console: Console) -> RenderableType:
    """Return the live view of a run's progress, fitted to the console's width and characters."""
    width = max(min(console.width - 30, 60), 8)
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(no_wrap=True, overflow="ellipsis")

    def add(label: str, value: Text | str) -> None:
        shown = Text(value) if isinstance(value, str) else value
        shown.plain = _fit(console, shown.plain)
        rows.add_row(label, shown)

    add("calls", _calls_line(progress))
    add(text.title(progress.metric).lower(), _quantiles_line(progress.turn))
    if progress.metric != "call_setup":
        add("call set-up", _quantiles_line(progress.setup))
    add("generator", _generator_line(progress))
    add("active", f"{sparkline(progress.active_history, width)} {progress.active}")
    last_p95 = progress.p95_history[-1] if progress.p95_history else None
    add(
        f"{_short_name(progress.metric)} p95", f"{sparkline(progress.p95_history, width)} {text.milliseconds(last_p95)}"
    )
    if progress.failures_by_outcome:
        failures = sorted(progress.failures_by_outcome.items(), key=lambda item: -item[1])
        add("failures", Text(", ".join(f"{text.clean(name)} {count}" for name, count in failures), "red"))
    if progress.message:
        add("", Text(text.clean(progress.message), "bold yellow"))
    head = _fit(console, f"{text.clean(progress.phase)} · {_remaining(progress)}")
    done = min(progress.elapsed_s, progress.planned_s)
    bar = ProgressBar(total=progress.planned_s or 1, completed=done if progress.planned_s else 1)
    return Panel(Group(Text(head, "bold"), bar, Text(""), rows), border_style="dim")


def _short_name(metric: str) -> str:
    """Return a latency metric as few words: `turn`, `call setup`."""
    return metric.removesuffix("_latency").replace("_", " ")


def _remaining(progress: Progress) -> str:
    left_s = progress.planned_s - progress.elapsed_s
    elapsed, planned = (text.whole_seconds(value) for value in (progress.elapsed_s, progress.planned_s))
    if left_s <= 0:
        return f"{elapsed}, the load is over, calls are finishing"
    return f"{elapsed} of {planned}, {text.whole_seconds(left_s)} left"


def _calls_line(progress: Progress) -> Text:
    planned = f" of {text.number(progress.planned_calls)}" if progress.planned_calls else ""
    line = Text.assemble(
        (f"{text.number(progress.active)} active", "bold"),
        f"  {text.number(progress.started)}{planned} started  {text.number(progress.completed)} completed  ",
        (f"{text.number(progress.failed)} failed", "red" if progress.failed else ""),
    )
    if progress.shed:
        line.append(f"  {text.number(progress.shed)} shed", "yellow")
    return line


def _quantiles_line(quantiles: Quantiles | None) -> str:
    if quantiles is None:
        return text.MISSING
    values = (("p50", quantiles.p50_ms), ("p95", quantiles.p95_ms), ("p99", quantiles.p99_ms))
    return "  ".join(f"{name} {text.milliseconds(value)}" for name, value in values) + f"  n {quantiles.count:,}"


def _generator_line(progress: Progress) -> Text:
    late_ms = progress.lateness_p99_ms
    over = late_ms is not None and late_ms > progress.lateness_limit_ms
    line = Text(f"lateness p99 {text.milliseconds(late_ms)}", "bold yellow" if over else "")
    if over:
        line.append(f" (limit {progress.lateness_limit_ms:g} ms)")
    return line.append(f"  CPU {progress.cpu_percent:.0f} %", "bold yellow" if progress.cpu_percent > 90 else "default")


def print_summary(console: Console, summary: Summary, paths: Mapping[str, Path | str]) -> None:
    """Print the verdict, gates, headline figures, voice, outcomes, errors, worst calls, and where the files are.

    `paths` maps a short label (`report.html`) to a path; all are printed whole, never wrapped.
    """
    sign = view.VERDICT_SIGNS[summary.verdict.status]
    console.print()
    _print(console, f"{sign.icon} {sign.word.upper()}  {view.verdict_sentence(summary)}", f"bold {_STYLES[sign.tone]}")
    for reason in summary.verdict.reasons:
        _print(console, f"  {text.clean(reason)}")
    for notice in view.notices(summary):
        _print(console, f"  {notice.title}: {notice.body}", _STYLES[notice.tone])
    for row in probe_rows(summary):
        if row.state:
            _print(console, f"  Probe {row.name}: {row.state}", _STYLES[row.sign.tone])
    tables = (
        _gates_table(summary),
        _targets_table(summary),
        _figures_table(summary),
        _voice_table(summary),
        _probes_table(summary),
        _outcomes_table(summary),
        _errors_table(summary),
        _facts_table(summary),
        _worst_table(summary),
    )
    for header, rows in tables:
        if rows:
            console.print()
            console.print(_table(console, header, rows))
    if summary.baseline is not None:
        console.print()
        print_changes(console, summary.baseline)
    if paths:
        console.print()
    widest = max((len(label) for label in paths), default=0)
    for label, path in paths.items():
        _print(console, f"{label:<{widest}}  {path}")


Cells = list[tuple[Text | str, ...]]


def _table(console: Console, header: tuple[str, ...], rows: Cells) -> Table:
    """Return a table; a header that starts with `>` sets its column to the right."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in rows:
        cells = [cell if isinstance(cell, Text) else Text(cell) for cell in row]
        for cell in cells:
            cell.plain = _fit(console, cell.plain)
        table.add_row(*cells)
    return table


def _gates_table(summary: Summary) -> tuple[tuple[str, ...], Cells]:
    rows: Cells = []
    for row in view.gate_rows(summary):
        sign = Text(f"{row.sign.icon} {row.sign.word}", _STYLES[row.sign.tone])
        shown = "\n".join(part for part in (row.name, row.expression, row.reason) if part)
        rows.append((sign, shown, row.actual, row.threshold, row.margin, row.sample_size))
    return ("Gate", "Expression", ">Actual", ">Threshold", ">Margin", ">Count"), rows


def _targets_table(summary: Summary) -> tuple[tuple[str, ...], Cells]:
    rows: Cells = [
        (row.name, row.calls, row.success, row.turn_p50, row.turn_p95, row.setup_p95)
        for row in view.target_rows(summary)
    ]
    return ("Target", ">Calls", ">Success", ">Turn p50", ">Turn p95", ">Set-up p95"), rows


def _figures_table(summary: Summary) -> tuple[tuple[str, ...], Cells]:
    rows: Cells = [(item.label, Text(item.value, _STYLES[item.tone]), item.detail) for item in view.headline(summary)]
    return ("Figure", ">Value", "Of"), rows


def _voice_table(summary: Summary) -> tuple[tuple[str, ...], Cells]:
    rows: Cells = []
    for group in voice.voice_groups(summary):
        for row in group.rows:
            style = _STYLES[row.sign.tone] if row.sign else ""
            state = Text(f"{row.sign.icon} {row.sign.word}" if row.sign else "", style)
            name = f"{row.title} {row.aggregate}".strip()
            rows.append((name, Text(row.value, style), state, row.target, row.critical, row.observations))
    return ("Metric" if summary.plan.component else "Voice", ">Value", "State", ">Target", ">Critical", ">Count"), rows


def _probes_table(summary: Summary) -> tuple[tuple[str, ...], Cells]:
    rows: Cells = []
    for row in probe_rows(summary):
        state = Text(
            f"{row.sign.icon} {row.sign.word}" + (f"\n{row.state}" if row.state else ""), _STYLES[row.sign.tone]
        )
        rows.append((f"{row.name}\n{row.about}", row.done, row.latency, row.p50, row.p95, row.p99, state))
    return ("Probe", ">Done", "Latency", ">p50", ">p95", ">p99", "State"), rows


def _worst_table(summary: Summary) -> tuple[tuple[str, ...], Cells]:
    """Return the worst calls that failed or had a bad turn."""
    rows: Cells = [
        (
            text.clean(call.call_id, 40) + (f"\ntrace {text.clean(call.trace_id, 40)}" if call.trace_id else ""),
            Text(text.title(call.outcome), _STYLES[view.outcome_tone(call.outcome)]),
            text.clean(call_in_words(call), 240),
        )
        for call in summary.worst_calls
        if call.outcome != Outcome.COMPLETED or any(problems_of(call, number) for number in range(len(call.turns)))
    ]
    return ("Worst calls", "Outcome", "What was bad"), rows[:WORST_MAX]


def _outcomes_table(summary: Summary) -> tuple[tuple[str, ...], Cells]:
    rows: Cells = [
        (Text(row.title, _STYLES[row.tone]), text.number(row.calls), row.share, row.meaning)
        for row in view.outcome_rows(summary)
    ]
    return ("Outcome", ">Calls", ">Share", "Meaning"), rows


def _errors_table(summary: Summary) -> tuple[tuple[str, ...], Cells]:
    rows: Cells = [
        (text.title(sample.outcome), text.number(sample.count), text.clean(sample.text, 160))
        for sample in summary.errors[:ERRORS_MAX]
    ]
    return ("Error of", ">Calls", "Text"), rows


def _facts_table(summary: Summary) -> tuple[tuple[str, ...], Cells]:
    rows: Cells = [(text.clean(name), text.clean(value, 160)) for name, value in summary.facts.items()]
    return ("Fact", "Value"), rows


def _print(console: Console, line: str, style: str = "") -> None:
    console.print(Text(_fit(console, line), style), soft_wrap=True, highlight=False)


def _fit(console: Console, line: str) -> str:
    """Return `line` in characters that the console's encoding has."""
    encoding, line = console.encoding or "utf-8", defused(line)
    if encoding.lower().replace("-", "").startswith("utf"):
        return line
    return line.translate(_ASCII).encode(encoding, "replace").decode(encoding)
