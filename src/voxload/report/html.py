"""The HTML report: one file that holds its data, charts and styles, and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import resources
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemBytecodeCache, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup

from voxload.measure.summary import Summary
from voxload.report import changes, charts, lanes, probes, sound, text, view, voice

WORST_CALLS_MAX = 25
CARDS_OPEN = 3
"""Worst calls that are shown in full at once; the others open on a click."""
ROWS_MAX = 50
"""Rows of a table of things that the target chose (error texts, message names)."""


def render_html(summary: Summary, recordings: Mapping[str, bytes] | None = None) -> str:
    """Return the report of a run as one self-contained HTML page (UTF-8).

    `recordings` holds WAV files by the names that the calls give (`CallRecord.recording`). Those of the worst calls are
    carried in the page in a small form, as far as there is room, else linked; without `recordings` all are linked.
    """
    worst = summary.worst_calls[:WORST_CALLS_MAX]
    sounds = sound.sounds([call.recording for call in worst], recordings)
    template = environment().get_template("report.html.j2")
    scripts = {"uplot": asset("vendor/uplot/uPlot.iife.min.js"), "app": asset("templates/report.js")}
    return template.render(
        summary=summary,
        recovery=summary.recovery,
        view=view,
        text=text,
        changes=changes,
        sign=view.VERDICT_SIGNS[summary.verdict.status],
        captions=charts.captions(summary),
        stretches=charts.stretches_a_point(summary),
        series_metrics=charts.series_metrics(summary),
        curve_metrics=charts.curve_metrics(summary),
        latency_groups=_latency_groups(summary),
        voice_groups=voice.voice_groups(summary),
        voice_note=voice.NOTE,
        probe_rows=probes.probe_rows(summary),
        cost_rows=voice.cost_rows(summary),
        cards=lanes.call_cards(worst, sounds, summary.probes, probes.stretch_s(summary)),
        cards_open=CARDS_OPEN,
        recorded=recordings is not None,
        rows_max=ROWS_MAX,
        data=Markup(script_json(charts.chart_data(summary))),  # noqa: S704 - script_json leaves nothing to escape
        scripts={name: Markup(source) for name, source in scripts.items()},  # noqa: S704 - files of this package
        styles=Markup(asset("vendor/uplot/uPlot.min.css") + asset("templates/report.css")),  # noqa: S704
        script_hashes=" ".join(f"'sha256-{_sha256(source)}'" for source in scripts.values()),
    )


def script_json(value: Any) -> str:
    """Return `value` as JSON that is safe inside a script element: no `<`, `>`, `&` and no line separators."""
    encoded = msgspec.json.encode(value).decode()
    for char in "<>&\u2028\u2029":
        encoded = encoded.replace(char, f"\\u{ord(char):04x}")
    return encoded


@cache
def environment() -> Environment:
    """Return the templates' environment: everything is escaped, a missing value is an error."""
    return Environment(
        loader=PackageLoader("voxload.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
        bytecode_cache=_compiled_before(),
    )


class _Compiled(FileSystemBytecodeCache):
    """Compiled templates in the user's own folder for temporary files: compiling takes longer than writing a page."""

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep one, where there is room."""
        with suppress(OSError):
            super().dump_bytecode(bucket)


def _compiled_before() -> _Compiled | None:
    try:
        return _Compiled()
    except (OSError, RuntimeError):  # no such folder, or another user's
        return None


def _finalize(value: Any) -> Any:
    return text.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def asset(name: str) -> str:
    """Return a file of this package that goes into a page."""
    # The hash in the page's security policy is of the text between the tags, so line ends must be plain.
    return resources.files("voxload.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _sha256(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _latency_groups(summary: Summary) -> list[list[view.LatencyRow]]:
    """Return the latency rows by metric: the row over all labels first, then those of single labels."""
    groups: list[list[view.LatencyRow]] = []
    for row in view.latency_rows(summary):
        if groups and groups[-1][0].metric == row.metric:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
