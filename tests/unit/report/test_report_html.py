"""The HTML report: self-contained, safe, and its charts draw in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from voxload.measure.summary import Summary
from voxload.report.calls import call_rows
from voxload.report.html import render_html, script_json

Change = Callable[..., Summary]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "img", "br", "hr", "input", "rect", "col", "path"}


class Outline(HTMLParser):
    """Checks nesting, and collects what the tests below ask for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.headless_tables = 0
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.headless_tables += 1
        if tag == "thead":
            self.headless_tables -= 1

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_is_well_formed_and_accessible(summary: Summary, empty_summary: Summary) -> None:
    for report in (summary, empty_summary):
        outline = Outline(render_html(report))
        assert len(outline.ids) == len(set(outline.ids))
        assert outline.headless_tables == 0
        named = [value for _, name, value in outline.attributes if name in {"aria-labelledby", "aria-describedby"}]
        assert {part for value in named for part in (value or "").split()} <= set(outline.ids)
        scopes = {value for tag, name, value in outline.attributes if tag == "th" and name == "scope"}
        assert scopes - {"rowgroup"} == {"col", "row"}


def test_the_page_fetches_nothing(summary: Summary, recordings: dict[str, bytes]) -> None:
    page = render_html(summary, recordings)
    named = [item for item in Outline(page).attributes if item[1] in {"src", "href", "srcset", "action", "data"}]
    assert {(tag, name) for tag, name, _ in named} == {("a", "href"), ("audio", "src")}
    assert all(re.match(r"#|recordings/|data:audio/wav;base64,", value or "") for _, _, value in named)
    assert not re.search(r"@import|\burl\(|fetch\(|XMLHttpRequest|import\(|WebSocket\(|sendBeacon|<link|<base", page)
    assert "default-src 'none'" in page


def test_the_page_is_small(change: Change, summary: Summary) -> None:
    assert len(render_html(summary).encode()) < 400_000
    long = [
        msgspec.structs.replace(point, start_s=float(round_ * 60 + second))
        for round_ in range(60)
        for second, point in enumerate(summary.timeline)
    ]
    page = render_html(change(timeline=long, worst_calls=summary.worst_calls * 20))
    assert len(page.encode()) < 900_000
    assert "each point stands for 6 stretches" in page


def test_data_cannot_end_its_script_element() -> None:
    encoded = script_json({"x": "</script><!--\u2028&"})
    assert not set(encoded) & set("<>&\u2028")
    assert msgspec.json.decode(encoded) == {"x": "</script><!--\u2028&"}


def test_worst_calls_are_drawn_on_one_scale(summary: Summary) -> None:
    rows = call_rows(summary.worst_calls)
    assert max(row.length for row in rows) == 100
    for row, call in zip(rows, summary.worst_calls, strict=True):
        assert [mark.answered for mark in row.marks] == [turn.latency_ms is not None for turn in call.turns]
        assert all(mark.left + mark.width <= 100.02 for mark in row.marks)
        assert row.told.count("no reply") == sum(turn.latency_ms is None for turn in call.turns)


def dumped(page: Path, profile: Path) -> tuple[str, str]:
    """Return the page's document after its scripts ran, and what the browser's console said."""
    assert CHROMIUM is not None
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --disable-dev-shm-usage --enable-logging=stderr --dump-dom"
    )
    command = [CHROMIUM, *options.split(), f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to run the page's scripts in")
@pytest.mark.parametrize(("name", "charts"), [("summary", 6), ("hostile", 7), ("one_call", 5), ("empty", 0)])
def test_charts_draw_in_a_browser(request: pytest.FixtureRequest, name: str, charts: int, tmp_path: Path) -> None:
    report = request.getfixturevalue(name if name in {"summary", "hostile"} else f"{name}_summary")
    page = tmp_path / "page.html"
    page.write_text(render_html(report), encoding="utf-8")
    document, console = dumped(page, tmp_path / "profile")
    assert console == ""
    assert document.count("<canvas") == charts


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to run the page's scripts in")
def test_the_console_check_sees_errors(summary: Summary, tmp_path: Path) -> None:
    """A script that the page's security policy does not name is refused, and the check above would notice."""
    page = tmp_path / "page.html"
    page.write_text(render_html(summary).replace("</body>", "<script>document.title=1</script></body>"))
    _, console = dumped(page, tmp_path / "profile")
    assert "Content Security Policy" in console
