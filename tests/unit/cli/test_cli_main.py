"""The list of commands in `voxload --help`, which is written without importing them."""

import click
import pytest

from voxload.cli.main import COMMANDS, SUMMARIES, cli


@pytest.mark.parametrize("width", [50, 80, 200])
def test_the_list_of_commands_says_what_each_says_of_itself(width):
    ours, clicks = click.HelpFormatter(width=width), click.HelpFormatter(width=width)
    context = click.Context(cli)
    cli.format_commands(context, ours)
    click.Group.format_commands(cli, context, clicks)
    assert ours.getvalue() == clicks.getvalue()
    assert ours.getvalue().count("\n") > len(COMMANDS)
    assert list(SUMMARIES) == list(COMMANDS)
