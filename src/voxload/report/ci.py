"""What CI systems are told: annotations of GitHub Actions, logging commands of Azure Pipelines, a badge.

Formats: docs.github.com "Workflow commands for GitHub Actions"; learn.microsoft.com "Logging commands" of Azure DevOps;
shields.io "Endpoint badge".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from voxload.measure.summary import Summary
from voxload.report import text, view
from voxload.report.changes import SIGNS, change_rows

ISSUES_MAX = 10
"""Annotations of a kind that GitHub shows for a step."""
GITHUB_DATA, GITHUB_PROPERTY = "%\r\n", "%\r\n:,"
AZURE_DATA, AZURE_PROPERTY = "\r\n", "\r\n;]"
"""What would end a command or a property; a percent sign is `%AZP25` to Azure Pipelines."""
STEP_SUMMARY_MAX = 1_000_000
"""GitHub takes 1 MiB of summary a step, and shows nothing of a larger one."""
_COMMAND = re.compile(r"##(?=vso\[|\[)|^(\s*):(?=:)")
_COLORS = {"passed": "brightgreen", "failed": "red", "unknown": "yellow", "aborted": "lightgrey"}


class Issue(NamedTuple):
    """Something that CI shows beside the log."""

    level: Literal["error", "warning"]
    title: str
    message: str


def issues(summary: Summary) -> list[Issue]:
    """Return what to show of a run: failed and unknown gates, regressions, and why a verdict is unknown."""
    found = []
    for row in view.gate_rows(summary):
        if row.sign.word != "pass":
            state = {"fail": "failed", "warn": "warns"}.get(row.sign.word, "could not be judged")
            level: Literal["error", "warning"] = "warning" if row.sign == view.WARNING_SIGN else "error"
            measured = f"{row.actual} against {row.threshold} ({row.sample_size} observations)"
            message = f"{row.expression}: {row.reason or measured}"
            found.append(Issue(level, f"Gate {state}: {row.name or row.expression}", message))
    for change in change_rows(summary.baseline):
        if change.sign == SIGNS["regression"]:
            message = f"{change.now} against {change.before} ({change.change}, interval {change.interval})"
            found.append(Issue("error", f"Worse than the baseline: {change.figure}", message))
    if summary.verdict.status in {"unknown", "aborted"}:
        sign = view.VERDICT_SIGNS[summary.verdict.status]
        reasons = "; ".join(text.clean(reason) for reason in summary.verdict.reasons)
        found.append(Issue("error", f"{sign.word}: {text.clean(summary.run.scenario)}", reasons))
    if summary.baseline is not None and summary.baseline.status == "unknown":
        reasons = "; ".join(text.clean(reason) for reason in summary.baseline.reasons)
        found.append(Issue("warning", "The check against the baseline is unknown", reasons))
    return found


def github_lines(summary: Summary) -> list[str]:
    """Return the annotations as workflow commands of GitHub Actions, one a line."""
    return [
        f"::{issue.level} title={_escaped(issue.title, GITHUB_PROPERTY)}::{_escaped(issue.message, GITHUB_DATA)}"
        for issue in _some(issues(summary))
    ]


def azure_lines(summary: Summary, junit: Path, markdown: Path) -> list[str]:
    """Return the logging commands of Azure Pipelines: issues, test results, the summary page, the task's result."""
    lines = [
        f"##vso[task.logissue type={issue.level}]{_azure(f'{issue.title}: {issue.message}')}"
        for issue in _some(issues(summary))
    ]
    title = _azure(f"voxload {text.clean(summary.run.scenario)}", in_property=True)
    file = _azure(str(junit.resolve()), in_property=True)
    lines.append(f"##vso[results.publish type=JUnit;resultFiles={file};runTitle={title};publishRunAttachments=true]")
    lines.append(f"##vso[task.uploadsummary]{_azure(str(markdown.resolve()))}")
    if summary.verdict.exit_code:
        lines.append(f"##vso[task.complete result=Failed]{_azure(view.verdict_sentence(summary))}")
    elif any(issue.level == "warning" for issue in issues(summary)):
        lines.append(f"##vso[task.complete result=SucceededWithIssues]{_azure(view.verdict_sentence(summary))}")
    return lines


def _some(found: Iterable[Issue]) -> list[Issue]:
    """Return the first issues of each level, as many as are shown."""
    kept: list[Issue] = []
    for issue in found:
        if sum(each.level == issue.level for each in kept) < ISSUES_MAX:
            kept.append(issue)
    return kept


def _escaped(value: str, characters: str) -> str:
    """Return `value` with each of the characters as a percent sign and two hexadecimal digits."""
    return "".join(f"%{ord(char):02X}" if char in characters else char for char in value)


def _azure(value: str, *, in_property: bool = False) -> str:
    """Return `value` as Azure Pipelines decodes it: `%AZP25` for a percent sign, codes for what ends a command."""
    return _escaped(value.replace("%", "%AZP25"), AZURE_PROPERTY if in_property else AZURE_DATA)


def defused(line: str) -> str:
    """Return a line of a report in which a CI system finds no command: a target must not command the build."""
    return _COMMAND.sub(lambda match: f"{match[1] or ''}: " if match[0].endswith(":") else "# #", line)


def render_badge(summary: Summary) -> str:
    """Return a badge in the endpoint schema of shields.io: the verdict, and the turn latency where it was measured."""
    status = summary.verdict.status
    turn = summary.histogram("turn_latency").quantile(0.95)
    message = f"{status}, turn p95 {text.nanoseconds(turn)}" if turn is not None else str(status)
    badge = {
        "schemaVersion": 1,
        "label": text.clean(summary.run.scenario, 40) or "voxload",
        "message": message,
        "color": _COLORS[status],
        "isError": status == "failed",
    }
    return msgspec.json.format(msgspec.json.encode(badge), indent=2).decode() + "\n"
