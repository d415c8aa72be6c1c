"""The documentation's commands do what it says: each page's console blocks run in a folder with its YAML files."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))
import metrics_table

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)?([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)]*)?\)")


def blocks(page):
    return [(kind, options.split(), body) for kind, options, body in BLOCK.findall(page.read_text())]


def commands(page):
    for kind, options, body in blocks(page):
        if kind == "console" and "no-test" not in options:
            code = next((int(option[5:]) for option in options if option.startswith("exit=")), 0)
            for line in body.splitlines():
                if line.startswith("$ "):
                    yield line[2:], code


@pytest.mark.parametrize("page", [page for page in PAGES if list(commands(page))], ids=lambda page: page.name)
def test_commands(voxload, page, tmp_path):
    for kind, _, body in blocks(page):
        name = re.match(r"name: (\w+)", body)
        if kind == "yaml" and name:
            (tmp_path / f"{name[1]}.yaml").write_text(body)
    for command, code in commands(page):
        words = shlex.split(command)
        assert words[0] == "voxload", command
        expanded = []
        for word in words[1:]:
            expanded += [str(match) for match in sorted(tmp_path.glob(word))] if "*" in word else [word]
        before = set(tmp_path.glob("results/*"))
        for _ in range(3):  # a busy machine may make a run unknown: the page goes on with another
            for disturbed in set(tmp_path.glob("results/*")) - before:
                shutil.rmtree(disturbed)
            done = voxload.once(*expanded, timeout_s=90)
            if done.code == code:
                break
        assert done.code == code, f"{command}: {done.out}{done.err}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, _ in LINK.findall(page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_is_documented():
    from voxload.cli.main import COMMANDS

    text = (ROOT / "docs" / "commands.md").read_text()
    for name in COMMANDS:
        assert f"`voxload {name}" in text


def test_the_table_of_metrics_is_current():
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert metrics_table.page(text) == text, "stale: run make docs"


def test_every_metric_and_outcome_is_documented():
    from voxload.model.metric import METRICS
    from voxload.model.outcome import Outcome

    text = (ROOT / "docs" / "metrics.md").read_text()
    for name in [*METRICS, *(outcome.value for outcome in Outcome)]:
        assert f"`{name}`" in text, name


def test_the_changelog_has_a_form():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[Unreleased\]$", text, re.MULTILINE)
    assert set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }


def test_every_option_of_every_dialect_is_documented():
    from pydantic import BaseModel

    from voxload.dialects.registry import _model_in, dialect_names, dialect_type

    def names(model):
        for name, field in model.model_fields.items():
            yield name
            below = _model_in(field.annotation)
            if below is not None and issubclass(below, BaseModel):
                yield from names(below)

    text = (ROOT / "docs" / "scenario.md").read_text()
    for dialect in dialect_names():
        assert f"`{dialect}`" in text
        sections = text.split("\n## ")
        (section,) = [
            part for part in sections if part.startswith("Options of") and f"`{dialect}`" in part.split("\n")[0]
        ]
        for option in names(dialect_type(dialect).options_type):
            assert re.search(rf"`[^`]*\b{option}\b[^`]*`", section), f"{dialect}: {option}"
