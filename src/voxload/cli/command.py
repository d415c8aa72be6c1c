"""Commands that name every wrong option at once, together with what is wrong with the scenario."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from voxload.errors import BadInputError, Collected, Problem

Command = TypeVar("Command", bound=Callable[..., Any])


def with_options(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Return the command with these options of click; `--help` shows the last one first."""
    for option in options:
        command = option(command)
    return command


def out_option(command: Command) -> Command:
    """Add `--out`, the folder of results."""
    option = click.option(
        "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Results folder."
    )
    return option(command)


class CheckedCommand(click.Command):
    """A command whose wrong options are all listed, not only the first; a SCENARIO among its arguments is checked too.

    Raises (from parsing):
        BadInputError: every option whose value is wrong, then the problems of the scenario.
        click.UsageError: an option that does not exist, or an argument that is missing.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does; where a value is wrong, look at all the others before saying so."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter:
            raise
        except click.BadParameter:
            raise self._everything(ctx, given) from None

    def _everything(self, ctx: click.Context, args: list[str]) -> BadInputError:
        again = click.Context(self, parent=ctx.parent, info_name=ctx.info_name)
        values, _, _ = self.make_parser(again).parse_args(args)
        problems = []
        for parameter in self.get_params(again):
            if parameter.is_eager:
                continue
            try:
                parameter.handle_parse_result(again, values, [])
            except click.BadParameter as error:
                name = max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.name.upper()
                problems.append(Problem(error.message.removesuffix("."), name))
        return BadInputError([*problems, *_problems_of(again.params.get("scenario"))])


def _problems_of(scenario: object) -> list[Problem]:
    """Return what is wrong with a scenario file, if one is given."""
    from voxload.runners.prepare import prepare  # noqa: PLC0415  # a second to import, and needed for mistakes only

    wrong = Collected()
    if isinstance(scenario, Path):
        wrong.attempt(lambda: prepare(scenario, environ=os.environ))
    return wrong.problems
