"""JUnit XML: a case for the verdict, each gate and each figure checked against a baseline, as CI systems read it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from voxload.measure.comparison import BaselineReport
from voxload.measure.summary import Summary
from voxload.report import changes, text, view

_ELEMENTS = {"fail": "failure", "unknown": "error", "failed": "failure", "aborted": "error"}


def render_junit(summary: Summary) -> str:
    """Return the gates and the verdict as JUnit XML (the `junit-10` schema of Jenkins' xUnit plugin).

    A failed gate is a `failure`; a gate or a verdict that could not be judged is an `error`, never a pass.
    """
    suite = ET.Element("testsuite")
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(summary):
        ET.SubElement(properties, "property", name=name, value=value)
    group = f"voxload.{text.clean(summary.run.scenario).replace('.', '_')}"
    statuses = [_verdict_case(suite, group, summary)]
    statuses += [_gate_case(suite, group, row) for row in view.gate_rows(summary)]
    statuses += _baseline_cases(suite, group, summary.baseline)
    ET.SubElement(suite, "system-out").text = "\n".join(_lines(summary)) + "\n"

    counts = {
        "tests": str(len(statuses)),
        "failures": str(statuses.count("failure")),
        "errors": str(statuses.count("error")),
        "time": f"{summary.run.duration_s:.3f}",
    }
    suite.attrib.update({"name": text.clean(summary.run.scenario), **counts, "skipped": "0"})
    # Schemas want xs:dateTime without a zone; the value is UTC.
    suite.set("timestamp", text.clean(summary.run.started_at)[:19])
    suite.set("hostname", text.clean(summary.run.environment.get("host", "localhost")))
    root = ET.Element("testsuites", {"name": "voxload", **counts})
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _properties(summary: Summary) -> list[tuple[str, str]]:
    run = summary.run
    named = [
        ("run_id", run.run_id),
        ("target", run.target),
        ("dialect", run.dialect),
        ("seed", str(run.seed)),
        ("voxload", run.voxload_version),
        *((figure.key, figure.value) for figure in view.headline(summary)),
    ]
    return [(name, text.clean(value)) for name, value in named]


def _verdict_case(suite: ET.Element, group: str, summary: Summary) -> str:
    case = ET.SubElement(suite, "testcase", name="verdict", classname=group, time=f"{summary.run.duration_s:.3f}")
    reasons = [text.clean(reason) for reason in summary.verdict.reasons]
    return _outcome(case, summary.verdict.status, view.verdict_sentence(summary), reasons)


def _gate_case(suite: ET.Element, group: str, row: view.GateRow) -> str:
    name = f"{row.name}: {row.expression}" if row.name else row.expression
    case = ET.SubElement(suite, "testcase", name=name, classname=f"{group}.gates", time="0")
    measured = f"{row.expression}: {row.actual} against {row.threshold} ({row.sample_size} observations)"
    warning = row.sign == view.WARNING_SIGN
    element = _outcome(case, "pass" if warning else row.sign.word, measured, [row.reason] if row.reason else [])
    if not element:
        ET.SubElement(case, "system-out").text = f"warning: {measured} {row.reason}".rstrip() if warning else measured
    return element


def _baseline_cases(suite: ET.Element, group: str, report: BaselineReport | None) -> list[str]:
    """Add a test case for each figure that was checked against a baseline."""
    if report is None:
        return []
    rows = changes.change_rows(report)
    found = [_change_case(suite, group, row) for row in rows]
    if report.status == "unknown" and "error" not in found:  # nothing could be compared at all
        case = ET.SubElement(suite, "testcase", name="against the baseline", classname=f"{group}.baseline", time="0")
        found.append(_outcome(case, "unknown", changes.sentence(report), [text.clean(item) for item in report.reasons]))
    return found


def _change_case(suite: ET.Element, group: str, row: changes.ChangeRow) -> str:
    name = f"{row.figure} against the baseline"
    case = ET.SubElement(suite, "testcase", name=name, classname=f"{group}.baseline", time="0")
    interval = f", interval {row.interval}" if row.interval else ""
    measured = f"{row.figure}: {row.now} against {row.before} ({row.change}{interval}, threshold {row.threshold})"
    status = {"worse": "fail", "unknown": "unknown"}.get(row.sign.word, "pass")
    element = _outcome(case, status, measured, [row.reason] if row.reason else [])
    if not element:
        ET.SubElement(case, "system-out").text = measured
    return element


def _outcome(case: ET.Element, status: str, message: str, details: list[str]) -> str:
    """Add what a status means to a test case; returns the name of the element added, empty for a pass."""
    name = "" if status in {"pass", "passed"} else _ELEMENTS.get(status, "error")
    if name:
        ET.SubElement(case, name, type=status, message="; ".join([message, *details])).text = "\n".join(
            [message, *details]
        )
    return name


def _lines(summary: Summary) -> list[str]:
    """Return the figures and notices as plain lines."""
    lines = [view.verdict_sentence(summary)]
    lines += [f"{figure.label}: {figure.value} ({figure.detail})" for figure in view.headline(summary)]
    lines += [f"{row.title}: {text.number(row.calls)} ({row.share})" for row in view.outcome_rows(summary)]
    return lines + [f"{notice.title}: {notice.body}" for notice in view.notices(summary)]
