"""Every command line in the documentation and in `deploy/` is one that the command takes; most of them no test runs."""

import re
import shlex
from pathlib import Path

import click
import pytest

from voxload.cli.main import cli

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "deploy" / "README.md"]
SCRIPTS = sorted(
    path for path in (ROOT / "deploy").rglob("*.y*ml") if path.parent.name in {"github", "azure-pipelines"}
)
FENCE = re.compile(r"^```(\w+)?[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILLED_IN = {"$ENGINES": "2", "$TIER": "smoke"}
COMMAND = re.compile(r"(?:^|[$;|]\s+|&&\s+|(?:run|script): )(?:voxload|docker run .*?voxload:[\d.]+) (.+)$")


def lines(path):
    """The arguments of each command line of voxload in a file's blocks, line ends with a backslash joined."""
    text = path.read_text()
    blocks = (
        [body for kind, body in FENCE.findall(text) if kind in {"", "console", "bash", "sh"}]
        if path.suffix == ".md"
        else [text]
    )
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        found = COMMAND.search(line.strip().removeprefix("- "))
        if found and not line.lstrip().startswith("#"):
            yield found[1]


def words(line):
    """A line's words up to a pipe or the next command; what a shell or a reader fills in stands as it is."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    found = []
    for word in lexer:
        if word in {"|", ";", "&", "&&", "||", ">", ">>", "2>", "<"}:
            break
        found.append(word)
    return [FILLED_IN.get(word, word) for word in found if word != "${options[@]}"]


def parse(command, name, arguments):
    """Parse as the command line does, group by group; a wrong option or value raises."""
    with command.make_context(name, list(arguments), ignore_unknown_options=False, resilient_parsing=False) as context:
        if isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            found_name, found, further = command.resolve_command(context, rest)
            return parse(found, found_name, further)
        return context.params


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_command_lines_are_taken(path):
    wrong = []
    for line in lines(path):
        try:
            parse(cli, "voxload", words(line))
        except click.exceptions.Exit:  # --help, --version
            pass
        except Exception as error:  # noqa: BLE001  # whatever it is, it is named with its line
            wrong.append(f"{line}: {error!r}")
    assert not wrong, "\n".join(wrong)


def test_lines_are_found_and_wrong_ones_are_noticed():
    found = [words(line) for line in lines(ROOT / "deploy" / "README.md")]
    assert any(each[:2] == ["run", "scenario.yaml"] for each in found)
    assert ["worker", "--master-host", "master.example", "--region", "westeurope"] in found
    assert sum(len(list(lines(path))) for path in SCRIPTS) >= 5
    with pytest.raises(click.UsageError):
        parse(cli, "voxload", words("run scenario.yaml --wrokers 2 | tee log"))
