"""The page of results: each section is kept with its raw figures in `results.json`, and the page is made from them all.

So a section can be measured again alone, and the others stay as they were measured.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent / "RESULTS.md"
KEPT = PAGE.with_name("results.json")
LOAD = "load before the start"
TITLES = {
    "peers": "Beside its peers",
    "loads": "Set loads",
    "growth": "From 100 to 10,000 calls",
    "profile": "Where a frame's time goes",
    "soak": "Memory over time",
    "long_soak": "Memory over ten minutes and a day",
    "redis": "Redis commands",
    "micro": "Pieces of the hot path",
}
"""In the order of the page."""


@dataclass(slots=True)
class Section:
    """What one part of the benchmark has found."""

    lines: list[str]
    """Markdown, without a heading."""
    data: Any
    """Raw figures."""
    held: bool = True
    """Whether all that must work did."""


def keep(name: str, section: Section, about: dict[str, str]) -> None:
    """Put a section in the place of its last version, and make the page again."""
    kept = _kept()
    kept[name] = {"machine": about, "lines": section.lines, "data": section.data}
    rows = [f"{json.dumps(name)}: {json.dumps(kept[name])}" for name in TITLES if name in kept]
    KEPT.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    PAGE.write_text(page(kept))


def page(kept: dict[str, Any]) -> str:
    """Return the page."""
    lines = ["# Benchmark", ""]
    lines += [
        "Made by `make bench`, all sections in one run unless a section says otherwise; raw figures of every step are",
        "in `results.json`. A section is measured again alone by the command under its heading.",
        "",
    ]
    shown = [name for name in TITLES if name in kept]
    common = kept[shown[0]]["machine"] if shown else {}
    lines += [f"- {name}: {value}" for name, value in common.items() if name != LOAD]
    for name in shown:
        entry = kept[name]
        load = entry["machine"].get(LOAD, "")
        command = f"`python -m benchmarks.run --only {name} --write`"
        lines += ["", f"## {TITLES[name]}", "", command + (f" ({LOAD}: {load})" if load else ""), ""]
        differs = {
            fact: value for fact, value in entry["machine"].items() if fact != LOAD and common.get(fact) != value
        }
        if differs:
            lines += ["Measured otherwise: " + "; ".join(f"{fact}: {value}" for fact, value in differs.items()), ""]
        lines += entry["lines"]
    return "\n".join(lines) + "\n"


def grid(columns: tuple[str, ...], rows: list[tuple[str, ...]], align: str = "---:") -> list[str]:
    """Return a table in Markdown; all columns but the first are aligned so: numbers to the right, texts `---`."""
    form = ["| " + " | ".join(columns) + " |", "|---|" + f"{align}|" * (len(columns) - 1)]
    return form + ["| " + " | ".join(row) + " |" for row in rows]


def kept_data(name: str) -> Any:
    """Return what a section has found when it was last measured, or None."""
    return _kept().get(name, {}).get("data")


def _kept() -> dict[str, Any]:
    return dict(json.loads(KEPT.read_text())) if KEPT.exists() else {}
