"""The files of a report, all from one summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from voxload.measure.summary import Summary, encode_summary
from voxload.report.ci import render_badge
from voxload.report.github import render_markdown
from voxload.report.html import render_html
from voxload.report.junit import render_junit


def write_reports(
    summary: Summary, write: Callable[[str, bytes | str], Path], recordings: Mapping[str, bytes] | None = None
) -> dict[str, Path]:
    """Write `summary.json` first, then what is made from it; returns the paths by name.

    `recordings` holds the WAV files of recorded calls by name; a lazy mapping is read for the worst calls only.
    """
    return {
        name: write(name, content())
        for name, content in (
            ("summary.json", lambda: encode_summary(summary)),
            ("report.html", lambda: render_html(summary, recordings)),
            ("junit.xml", lambda: render_junit(summary)),
            ("summary.md", lambda: render_markdown(summary)),
            ("badge.json", lambda: render_badge(summary)),
        )
    }
