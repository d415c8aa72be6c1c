"""Writes the table of metrics in docs/metrics.md from the catalogue; `make docs` runs it."""

from pathlib import Path

from voxload.model.metric import METRICS

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"
START, END = "<!-- metrics: made by `make docs` -->\n", "<!-- end of metrics -->\n"


def table() -> str:
    rows = ["| metric | kind | unit | better | meaning |", "|---|---|---|---|---|"]
    rows += [
        f"| `{metric.name}` | {metric.kind} | {metric.unit or '%'} | {metric.better} | {metric.meaning} |"
        for metric in METRICS.values()
    ]
    return "\n".join(rows) + "\n"


def page(text: str) -> str:
    before, rest = text.split(START)
    _, after = rest.split(END)
    return before + START + table() + END + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
