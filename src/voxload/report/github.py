"""A Markdown report, as GitHub shows it in a step summary or a comment."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from voxload.measure.summary import Summary
from voxload.report import changes, text, view, voice
from voxload.report.calls import call_in_words
from voxload.report.probes import probe_rows

_ICONS = {"good": "✅", "bad": "❌", "unsure": "⚠️", "info": "i"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+|~@$!]|:(?=\S)|^-|(?<=www)\.|(?<=\d)\.(?=\s))")
ROWS_MAX = 20
WORST_MAX = 10


def escape(value: str) -> str:
    """Return `value` as Markdown that reads as itself: no tables broken, no links, mentions, HTML or formulas made."""
    return _SPECIAL.sub(r"\\\1", html.escape(text.clean(value), quote=False))


def code(value: str) -> str:
    """Return `value` as a code span that may stand in a table cell."""
    shown = text.clean(value)
    if not set(shown) & set("`|"):
        return f"`{shown}`" if shown else ""
    entities = "".join(char if char.isalnum() or char == " " else f"&#{ord(char)};" for char in shown)
    return f"<code>{entities}</code>"


def render_markdown(summary: Summary) -> str:
    """Return the report of a run in GitHub-flavoured Markdown."""
    sign, run = view.VERDICT_SIGNS[summary.verdict.status], summary.run
    parts = [
        f"## {_ICONS[sign.tone]} {sign.word}: {escape(run.scenario)}",
        f"**{escape(view.verdict_sentence(summary))}**",
        "\n".join(f"- {escape(reason)}" for reason in summary.verdict.reasons),
        *(_notice(notice) for notice in view.notices(summary)),
        _figures(summary),
        _gates(summary),
        _baseline(summary),
        _voice(summary),
        _probes(summary),
        _details("Worst calls", _worst(summary)),
        _details("Cost", _cost(summary)),
        _details("Latency", _latency(summary)),
        _details("Outcomes and errors", _outcomes(summary)),
        _details("Run", _run(summary)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _notice(notice: view.Notice) -> str:
    kind = "NOTE" if notice.tone in {"info", "good"} else "WARNING"
    return f"> [!{kind}]\n> **{escape(notice.title)}.** {escape(notice.body)}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 1) -> str:
    """Return a table; columns from `numbers_from` on are set to the right. Cells must be escaped already."""
    marks = ["---" if column < numbers_from else "---:" for column in range(len(header))]
    lines = [header, marks, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if len(lines) > 2 else ""


def _details(title: str, body: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>" if body else ""


def _figures(summary: Summary) -> str:
    rows = [(escape(item.label), escape(item.value), escape(item.detail)) for item in view.headline(summary)]
    table = _table(("Figure", "Value", "Of"), rows)
    return table.replace("| --- | ---: | ---: |", "| --- | ---: | --- |", 1)


def _gates(summary: Summary) -> str:
    rows = [
        (
            f"{_ICONS[row.sign.tone]} {row.sign.word}",
            code(row.expression) + (f" {escape(row.name)}" if row.name else ""),
            escape(row.reason),
            escape(row.actual),
            escape(row.threshold),
            escape(row.margin),
            row.sample_size,
        )
        for row in view.gate_rows(summary)
    ]
    return _table(("Gate", "Expression", "Reason", "Actual", "Threshold", "Margin", "Observations"), rows, 3)


def _baseline(summary: Summary) -> str:
    """Return the check against a baseline: what changed in sight, the rest to open."""
    report = summary.baseline
    if report is None:
        return ""
    rows = [
        (
            f"{_ICONS[row.sign.tone]} {row.sign.word}" if row.sign.word != "same" else "same",
            code(row.figure),
            escape(row.reason),
            escape(row.before),
            escape(row.now),
            escape(row.change),
            escape(row.interval),
            escape(row.threshold),
        )
        for row in changes.change_rows(report)
    ]
    header = ("Baseline", "Figure", "Reason", "Before", "Now", "Change", "Interval", "Threshold")
    loud = [row for row in rows if row[0] != "same"]
    quiet = _table(header, [row for row in rows if row[0] == "same"], 3)
    of = f"{code(report.baseline)}, version {escape(report.baseline_version)}"
    notes = "\n".join(f"- {escape(note)}" for note in report.notes)
    parts = [f"**{escape(changes.sentence(report))}** ({of})", _table(header, loud, 3)]
    return "\n\n".join(part for part in [*parts, _details("Figures without a change", quiet), notes] if part)


def _voice(summary: Summary) -> str:
    rows = [
        (
            escape(f"{row.title} {row.aggregate}".strip()),
            escape(row.value),
            f"{_ICONS.get(row.sign.tone, '')} {row.sign.word}".strip() if row.sign else "",
            escape(row.target),
            escape(row.critical),
            row.observations,
        )
        for group in voice.voice_groups(summary)
        for row in group.rows
    ]
    table = _table(("Voice", "Value", "State", "Target", "Critical", "Count"), rows)
    return f"{table}\n\n{escape(voice.NOTE)}" if table else ""


def _probes(summary: Summary) -> str:
    rows = [
        (
            escape(row.name),
            f"{_ICONS[row.sign.tone]} {row.sign.word}",
            escape(row.state),
            escape(row.latency),
            row.done,
            escape(row.p50),
            escape(row.p95),
            escape(row.p99),
        )
        for row in probe_rows(summary)
    ]
    return _table(("Probe", "State", "Why", "Latency", "Done", "p50", "p95", "p99"), rows, 4)


def _worst(summary: Summary) -> str:
    rows = [
        (
            code(call.call_id) + (f"<br>trace {code(call.trace_id)}" if call.trace_id else ""),
            escape(text.title(call.outcome)),
            escape(call_in_words(call)),
        )
        for call in summary.worst_calls[:WORST_MAX]
    ]
    return _table(("Call", "Outcome", "What was bad"), rows, 3)


def _cost(summary: Summary) -> str:
    rows = [(escape(row.item), escape(row.amount), row.share, escape(row.per_call)) for row in voice.cost_rows(summary)]
    return _table(("Item", "Whole run", "Share", "For each completed call"), rows)


def _latency(summary: Summary) -> str:
    rows = [
        (escape(row.title if not row.label else f"— {row.label}"), text.number(row.observations), *row.cells)
        for row in view.latency_rows(summary)
    ]
    return _table(("Metric", "Count", *view.LATENCY_COLUMNS), rows)


def _outcomes(summary: Summary) -> str:
    outcomes = [
        (escape(row.title), escape(row.meaning), text.number(row.calls), escape(row.share))
        for row in view.outcome_rows(summary)
    ]
    errors = [
        (escape(text.title(sample.outcome)), code(text.clean(sample.text, 200)), text.number(sample.count))
        for sample in summary.errors[:ROWS_MAX]
    ]
    tables = (
        _table(("Outcome", "Meaning", "Calls", "Share"), outcomes, 2),
        _table(("Outcome", "Error", "Calls"), errors, 2),
    )
    return "\n\n".join(table for table in tables if table)


def _run(summary: Summary) -> str:
    run, plan = summary.run, summary.plan
    phases = ", ".join(phase.name for phase in plan.phases)
    rows = [
        ("Run", code(run.run_id)),
        ("Started", escape(run.started_at)),
        ("Duration", text.milliseconds(run.duration_s * 1e3)),
        ("Target", code(run.target)),
        ("Dialect", code(run.dialect)),
        ("Load", f"{plan.model}, {escape(phases)}"),
        ("Seed", str(run.seed)),
        ("voxload", escape(run.voxload_version)),
        *((escape(name), escape(value)) for name, value in summary.facts.items()),
        *((escape(name), escape(value)) for name, value in run.environment.items()),
    ]
    return _table(("Fact", "Value"), rows, 2)
