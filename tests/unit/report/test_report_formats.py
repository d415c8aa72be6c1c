"""JUnit, Markdown, and all formats together: same numbers, nothing injected."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import msgspec
import pytest
from junitparser import Error, Failure, JUnitXml
from markdown_it import MarkdownIt
from rich.console import Console

from voxload.measure.series import ErrorSample
from voxload.measure.summary import Summary, Verdict
from voxload.report import view
from voxload.report.github import code, escape, render_markdown
from voxload.report.html import render_html
from voxload.report.junit import render_junit
from voxload.report.terminal import print_summary

Change = Callable[..., Summary]


def terminal_text(summary: Summary, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_summary(console, summary, {"report.html": "/results/a/report.html"})
    return console.file.getvalue()  # type: ignore[attr-defined]


def visible_html(summary: Summary) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", "", render_html(summary), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", body))


def markdown_text(summary: Summary) -> str:
    """Return the Markdown as a reader sees it."""
    page = MarkdownIt("commonmark", {"html": False}).enable("table").render(render_markdown(summary))
    return html.unescape(re.sub(r"<[^>]*>", " ", page))


def test_all_reports_agree_to_the_digit(summary: Summary) -> None:
    junit = html.unescape(render_junit(summary))
    for report in (visible_html(summary), terminal_text(summary), markdown_text(summary), junit):
        flat = " ".join(report.split())
        for figure in view.headline(summary):
            assert figure.value in flat
            assert figure.detail in flat
        for row in view.gate_rows(summary):
            assert row.expression in flat
            assert row.actual in flat
            assert row.threshold in flat
        for outcome in view.outcome_rows(summary):
            assert outcome.title in flat
            assert outcome.share in flat
        assert view.verdict_sentence(summary) in flat
    page, markdown = visible_html(summary), markdown_text(summary)
    for row in view.latency_rows(summary):
        for cell in row.cells:
            assert cell in page
            assert cell in markdown


def test_junit_has_a_case_for_each_gate_and_one_for_the_verdict(summary: Summary) -> None:
    suite = next(iter(JUnitXml.fromstring(render_junit(summary).encode())))
    cases = {case.name: case.result for case in suite}
    assert list(cases) == [
        "verdict",
        "callers do not wait: p95(turn_latency) < 1.5s",
        "p99(http_latency) < 800ms",
        "p50(turn_latency) < 1.2s",
        "call_success > 90%",
    ]
    kinds = [[type(result) for result in results] for results in cases.values()]
    assert kinds == [[Failure], [Failure], [Error], [], []]
    assert "no side request was sent" in cases["p99(http_latency) < 800ms"][0].message
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (5, 2, 1, 0)


@pytest.mark.parametrize(("status", "element"), [("passed", None), ("unknown", "error"), ("aborted", "error")])
def test_junit_of_other_verdicts(change: Change, status: str, element: str | None) -> None:
    root = ET.fromstring(render_junit(change(verdict=Verdict(status, 0, ["because"]), gates=[])))  # type: ignore[arg-type]
    case = root.find("testsuite/testcase")
    assert case is not None
    assert [child.tag for child in case] == ([element] if element else [])


def test_junit_keeps_to_the_schema_that_ci_systems_read(hostile: Summary, summary: Summary) -> None:
    """Elements, order and attributes as in the junit-10 schema of Jenkins' xUnit plugin, which is the strict one."""
    allowed = {
        "testsuites": {"name", "time", "tests", "failures", "errors"},
        "testsuite": {"name", "tests", "failures", "errors", "time", "skipped", "timestamp", "hostname"},
        "testcase": {"name", "time", "classname"},
        "property": {"name", "value"},
        "failure": {"type", "message"},
        "error": {"type", "message"},
        "properties": set(),
        "system-out": set(),
    }
    for report in (summary, hostile):
        root = ET.fromstring(render_junit(report))
        assert [child.tag for child in root] == ["testsuite"]
        for element in root.iter():
            assert set(element.attrib) <= allowed[element.tag]
        suite = root[0]
        assert {"name", "tests", "failures", "errors"} <= set(suite.attrib)
        tags = [child.tag for child in suite]
        assert tags == sorted(tags, key=["properties", "testcase", "system-out"].index)
        assert re.fullmatch(r"[0-9]*\.[0-9]+", suite.attrib["time"])
    assert re.fullmatch(r"\d{4}(-\d\d){2}T\d\d(:\d\d){2}", ET.fromstring(render_junit(summary))[0].attrib["timestamp"])


def test_hostile_texts_are_data_everywhere(hostile: Summary) -> None:
    page = render_html(hostile)
    assert page.count("<script") == page.count("</script") == 3
    assert "<img" not in page
    assert "onerror=y>" not in page
    markdown = MarkdownIt("commonmark").enable("table").render(render_markdown(hostile))
    assert set(re.findall(r"<([a-z0-9]+)", markdown)) <= {
        "h2", "p", "strong", "ul", "li", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "details",
        "summary", "code",
    }  # fmt: skip
    for report in (page, render_junit(hostile), render_markdown(hostile), terminal_text(hostile)):
        assert not set(report) & {"\x1b", "\x00", "\u202e"}
        report.encode()


def test_hostile_texts_break_no_table(hostile: Summary) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", render_markdown(hostile), re.MULTILINE):
        page = MarkdownIt("commonmark").enable("table").render(table)
        widths = {row.count("<td") + row.count("<th") for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)}
        lines = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == len(lines) == 1


@pytest.mark.parametrize("raw", ["a|b", "*x* _y_ `z` [l](u) <b> #1 @me $x$", "- 1. item", "www.x.y http://x.y :smile:"])
def test_markdown_escapes_read_as_themselves(raw: str) -> None:
    page = MarkdownIt("gfm-like", {"linkify": False}).render(escape(raw))
    assert html.unescape(page) == f"<p>{raw}</p>\n"
    page = MarkdownIt("commonmark").render(code(raw))
    assert html.unescape(page) == f"<p><code>{raw}</code></p>\n"


def test_empty_run_and_one_call(empty_summary: Summary, one_call_summary: Summary) -> None:
    for summary in (empty_summary, one_call_summary):
        for report in (visible_html(summary), terminal_text(summary), render_markdown(summary), render_junit(summary)):
            assert "None" not in report.replace("None.", "")
            assert "nan" not in report.lower().split()
    assert "No call ended." in visible_html(empty_summary)
    assert ET.fromstring(render_junit(empty_summary)).attrib["errors"] == "5"
    assert "1 of 1" in terminal_text(one_call_summary)


def test_a_cut_or_closed_run_says_so_everywhere(change: Change) -> None:
    summary = change(run={"cut_short": "stopped by Ctrl-C"}, plan={"model": "closed"})
    for report in (visible_html(summary), terminal_text(summary), markdown_text(summary), render_junit(summary)):
        assert "stopped by Ctrl-C" in report
        assert "coordinated omission" in " ".join(report.split())


def test_markdown_is_small_enough_for_a_step_summary(hostile: Summary, summary: Summary) -> None:
    assert len(render_markdown(summary)) < 60_000  # a comment holds 65,536 characters
    many = msgspec.structs.replace(hostile, errors=[ErrorSample("rejected", "|<`" * 500, 1)] * 500)
    assert len(render_markdown(many).encode()) < 200_000
