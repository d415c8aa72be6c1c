"""What CI systems are told, the badge, and the check against a baseline in every report."""

import io
import json
import re
from xml.etree import ElementTree as ET

import msgspec
import pytest
from rich.console import Console

from voxload.cli.after_run import tell_ci
from voxload.measure.comparison import BaselineReport, Change, Improvement, Regression
from voxload.measure.summary import Verdict, encode_summary, read_summary
from voxload.report.ci import azure_lines, defused, github_lines, issues, render_badge
from voxload.report.github import render_markdown
from voxload.report.html import render_html
from voxload.report.junit import render_junit
from voxload.report.terminal import print_summary
from voxload.report.view import verdict_sentence

EVIL = "x\n::error::boo\r%0A ##vso[task.setvariable variable=a]b; ] <b>|`"


def changed(figure, status, change=12.0, reason=""):
    known = status != "unknown"
    return Change(
        figure, figure, status, 800.0, 800.0 * (1 + change / 100), "ms", change if known else None,
        change - 5 if known else None, change + 5 if known else None, "%", 10.0, 500, reason,
    )  # fmt: skip


def report_of(status="failed", reasons=("p95(turn_latency): worse",), baseline="baselines/demo.json"):
    statuses = {"failed": "regression", "passed": "unchanged", "unknown": "unknown"}
    return BaselineReport(
        timestamp="2026-01-01",
        baseline_version="v1",
        test_summary={},
        regressions=[Regression("turn_latency_p95", 800, 900, 12.5, "ms", 7, 17, "%")] if status == "failed" else [],
        improvements=[Improvement("call_setup_p95", 800, 700, 12.5, "ms", -17, -7, "%")],
        status=status,
        reasons=list(reasons),
        changes=[
            changed("p50(call_setup)", "unchanged", 1.0),
            changed("p95(call_setup)", "improvement", -12.5),
            changed("p95(turn_latency)", statuses[status], reason="too few" if status == "unknown" else ""),
        ],
        notes=["one run only"],
        baseline=baseline,
        baseline_runs=1,
        run_id="r",
        method="bootstrap",
    )


@pytest.fixture
def worse(change):
    return change(baseline=report_of(), gates=[], verdict=Verdict("failed", 1, ["baseline: p95(turn_latency): worse"]))


def printed(summary):
    console = Console(file=io.StringIO(), width=110)
    print_summary(console, summary, {})
    return console.file.getvalue()


def test_every_report_shows_the_check(worse):
    assert verdict_sentence(worse) == "The agent is not good enough: 1 figure worse than the baseline."
    for shown in (printed(worse), render_markdown(worse), render_html(worse)):
        assert "Worse than the baseline: 1 regression, 1 improvement" in re.sub(r"\\", "", shown)
        assert "p95(turn_latency)" in shown
        assert "+7.0 … +17.0" in re.sub(r"\\", "", shown)
        assert "one run only" in shown.lower()
    assert read_back(worse) == worse


def read_back(summary):
    return msgspec.json.decode(encode_summary(summary), type=type(summary))


def test_sentences(change):
    ok = Verdict("passed", 0, [])
    passed = change(baseline=report_of("passed", ()), gates=[], verdict=ok)
    assert verdict_sentence(passed) == "The agent is good enough: nothing is worse than the baseline."
    unknown = change(baseline=report_of("unknown"), gates=[], verdict=Verdict("unknown", 4, ["x"]))
    assert "check against the baseline is unknown" in verdict_sentence(unknown)
    both = change(baseline=report_of(), verdict=Verdict("failed", 1, ["x"]))
    assert verdict_sentence(both).endswith("failed, and 1 figure worse than the baseline.")


def cases(summary):
    return {case.get("name"): case for case in ET.fromstring(render_junit(summary)).iter("testcase")}


def test_a_test_case_for_each_figure(worse, change):
    found = cases(worse)
    assert found["p95(turn_latency) against the baseline"].find("failure") is not None
    assert "interval" in found["p95(turn_latency) against the baseline"].find("failure").get("message")
    for name in ("p50(call_setup) against the baseline", "p95(call_setup) against the baseline"):
        assert not {child.tag for child in found[name]} & {"failure", "error"}
    unknown = cases(change(baseline=report_of("unknown")))
    assert unknown["p95(turn_latency) against the baseline"].find("error") is not None
    bare = msgspec.structs.replace(report_of("unknown", ("nothing can be compared",)), changes=[])
    assert cases(change(baseline=bare))["against the baseline"].find("error") is not None


def test_annotations_for_github(worse, summary):
    (line,) = github_lines(worse)
    assert line.startswith("::error title=Worse than the baseline%3A p95(turn_latency)::")
    assert "12.0 %25" in line
    titles = [issue.title for issue in issues(summary)]
    assert sum(title.startswith("Gate failed") for title in titles) == 1
    assert any(title.startswith("Gate could not be judged") for title in titles)
    for line in github_lines(summary):
        assert re.fullmatch(r"::(error|warning) title=[^:,\r\n]*::[^\r\n]*", line)


def test_nothing_of_a_target_becomes_a_command(change, hostile):
    evil = msgspec.structs.replace(hostile, baseline=report_of("unknown", (EVIL,), EVIL))
    for line in github_lines(evil):
        assert re.fullmatch(r"::(error|warning) title=[^:,\r\n]*::[^\r\n]*", line)
    for line in printed(change(errors=[msgspec.structs.replace(hostile.errors[0], text=EVIL)])).splitlines():
        assert "##vso[" not in line
        assert not line.strip().startswith("::")
    assert defused("  ::set-output name=a::b ##[error]x") == "  : :set-output name=a::b # #[error]x"
    assert defused("IPv6 [::1] ## heading") == "IPv6 [::1] ## heading"


def test_logging_commands_for_azure(worse, change, tmp_path):
    junit, page = tmp_path / "a;]%.xml", tmp_path / "summary.md"
    lines = azure_lines(worse, junit, page)
    assert lines[0].startswith("##vso[task.logissue type=error]Worse than the baseline: p95(turn_latency): ")
    assert "12.0 %AZP25" in lines[0]
    publish = next(line for line in lines if "results.publish" in line)
    assert "a%3B%5D%AZP25.xml" in publish
    assert f"##vso[task.uploadsummary]{page}" in lines
    assert lines[-1].startswith("##vso[task.complete result=Failed]")
    passed = change(gates=[], verdict=Verdict("passed", 0, []))
    assert not [line for line in azure_lines(passed, junit, page) if "logissue" in line or "complete" in line]


def test_a_flood_of_failures_is_cut_to_what_is_shown(summary):
    gates = [msgspec.structs.replace(summary.gates[0], expression=f"calls > {n}", status="fail") for n in range(50)]
    assert len(github_lines(msgspec.structs.replace(summary, gates=gates))) == 10


@pytest.mark.parametrize(("status", "color"), [("passed", "brightgreen"), ("failed", "red"), ("unknown", "yellow")])
def test_the_badge(change, status, color):
    badge = json.loads(render_badge(change(verdict=Verdict(status, 0, []))))
    assert badge["schemaVersion"] == 1
    assert badge["color"] == color
    assert badge["message"].startswith(f"{status}, turn p95 ")
    assert badge["isError"] is (status == "failed")
    assert badge.keys() <= {"schemaVersion", "label", "message", "color", "isError"}


def test_ci_is_told_where_it_runs(worse, tmp_path, capsys):
    paths = {"junit.xml": tmp_path / "junit.xml", "summary.md": tmp_path / "summary.md"}
    paths["summary.md"].write_text("## the page\n")
    step = tmp_path / "step.md"
    step.write_text("before\n")
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(step)}
    tell_ci(worse, paths, environ, to_stderr=False)
    assert capsys.readouterr().out.startswith("::error ")
    assert step.read_text() == "before\n## the page\n\n"
    tell_ci(worse, paths, {"TF_BUILD": "True"}, to_stderr=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "##vso[task.complete result=Failed]" in shown.err
    tell_ci(worse, paths, {}, to_stderr=False)
    assert capsys.readouterr().out == ""
    step.write_bytes(b"x" * 1_000_000)
    tell_ci(worse, paths, {"GITHUB_STEP_SUMMARY": str(step)}, to_stderr=False)
    assert step.stat().st_size == 1_000_000
    tell_ci(worse, paths, {"GITHUB_STEP_SUMMARY": str(tmp_path / "no" / "where")}, to_stderr=False)


def test_summaries_without_a_check_are_read_as_before(summary, tmp_path):
    raw = json.loads(encode_summary(summary))
    del raw["baseline"]
    (tmp_path / "summary.json").write_text(json.dumps(raw))
    assert read_summary(tmp_path).baseline is None
