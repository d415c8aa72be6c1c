"""`voxload plan`: what so many calls ask of each service, which limit breaks first, what to ask for, what it costs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from voxload.cli.command import CheckedCommand
from voxload.cli.options import Share
from voxload.errors import BadInputError, Problem
from voxload.planning.limits import DEFAULT_PROFILE, parse_amount, profiles, read_limits
from voxload.planning.plan import CapacityPlan, Row, Targets, calls_of_day, demand_per_call, make_plan
from voxload.planning.profile import FIELDS, cost_per_call, profile_of
from voxload.planning.simulation import Simulated, simulate
from voxload.report.plan_page import LimitLine, render_plan
from voxload.runners.estimate import estimate_plan
from voxload.runners.prepare import prepare
from voxload.runners.results import write_atomically

EPILOG = """\b
Examples:
  voxload plan --calls 10000 --daily 100000
  voxload plan scenario.yaml --daily 100K --limits published-2025
  voxload plan scenario.yaml --calls 500 --limit openai.tokens_per_minute=1M --assume redis_connections=0.05
  voxload plan scenario.yaml --calls 500 --simulate --html plan.html

\b
Without --calls and --daily the plan is for the scenario's own peak.
Without SCENARIO the call is assumed: 3 minutes, 10 turns; --assume changes every figure, and every figure is printed.
Exit codes: 0 every limit carries the calls, 1 a limit does not, 2 bad input.
"""

Tables = list[tuple[str, list[str], list[list[str]]]]


class _Amount(click.ParamType[float]):
    """A number of calls: 500, 10K, 1.5M."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the text."""
        try:
            amount = parse_amount(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if amount is None:
            self.fail("a plan needs a number", param, ctx)
        return amount


@click.command("plan", cls=CheckedCommand, epilog=EPILOG)
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@click.option(
    "--calls", type=_Amount(), help="Calls at once in the busiest hour, on average (default: the scenario's peak)."
)
@click.option("--daily", type=_Amount(), help="Calls a day; alone, they set the calls at once too.")
@click.option("--busy-hour", type=Share(below=10), default="15%", show_default=True, help="Share of the day's calls.")
@click.option("--limits", default=DEFAULT_PROFILE, show_default=True, help=f"{', '.join(profiles())}, or a file.")
@click.option("--limit", "limit", multiple=True, metavar="NAME=VALUE", help="One limit: 2500, 240K, unlimited.")
@click.option("--assume", multiple=True, metavar="FIELD=VALUE", help=f"A figure of the mean call: {', '.join(FIELDS)}.")
@click.option("--headroom", type=Share(below=10), default="30%", show_default=True, help="Beyond the need, in quotas.")
@click.option(
    "--blocking", type=Share(below=10), default="1%", show_default=True, help="Refused share that breaks a limit."
)
@click.option("--simulate", "simulated", is_flag=True, help="Check the formulas by playing the calls, event by event.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the simulation.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the plan as a page with a plot.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, nothing else.")
def plan_command(
    scenario: Path | None, html: Path | None, as_json: bool, simulated: bool, seed: int, **options: Any
) -> int:
    """Plan capacity: SCENARIO says what a call is, the limits what the services give."""
    prepared = prepare(scenario, environ=os.environ) if scenario is not None else None
    profile, origins = profile_of(prepared, options["assume"])
    limits = read_limits(options["limits"], options["limit"])
    calls, daily = options["calls"], options["daily"]
    if calls is None and daily is None:
        if prepared is None:
            hint = "give --calls 10000, or --daily 100000, or a scenario"
            raise BadInputError([Problem("plan for how many calls?", suggestion=hint)])
        calls = estimate_plan(prepared).peak_calls
    if options["blocking"] >= 1:
        raise BadInputError([Problem("--blocking must be less than 100%")])
    if calls is None:
        calls = calls_of_day(daily, options["busy_hour"], profile.call_s)
    cost = prepared.scenario.cost if prepared is not None else None
    targets = Targets(calls, daily, options["busy_hour"], options["headroom"], options["blocking"])
    plan = make_plan(profile, origins, limits, targets, None if cost is None else cost_per_call(profile, cost))
    played = simulate(plan, SIMULATED_CALLS, seed) if simulated else []
    tables = _tables(plan, played)
    if html is not None:
        write_atomically(html, _page(plan, tables).encode())
    if as_json:
        extra = {"simulation": [{**msgspec.structs.asdict(it), "refused_share": it.refused_share} for it in played]}
        data = {**msgspec.to_builtins(plan), **(extra if simulated else {})}
        click.echo(msgspec.json.format(msgspec.json.encode(data), indent=2).decode())
    else:
        _print(Console(highlight=False), plan, tables, html)
    return 1 if any(_broken(row, plan) for row in plan.rows) else 0


SIMULATED_CALLS = 20_000


def _broken(row: Row, plan: CapacityPlan) -> bool:
    return row.breaks_at_calls is not None and plan.targets.calls > row.breaks_at_calls


def answer(plan: CapacityPlan) -> str:
    """Return the plan's answer in a sentence or two."""
    broken = [row for row in plan.rows if _broken(row, plan)]
    first = next((row for row in plan.rows if row.limit == plan.first), None)
    if first is None:
        return f"{plan.targets.calls:,.0f} calls at once: none of the limits can break."
    words = f"{first.limit} breaks first, at {first.breaks_at_calls:,.0f} calls at once."
    if not broken:
        return f"{plan.targets.calls:,.0f} calls at once fit into every limit; {words}"
    names = ", ".join(row.limit for row in broken)
    return f"{plan.targets.calls:,.0f} calls at once do not fit: {names} would have to grow. {words}"


def _amount(value: float | None) -> str:
    if value is None:
        return "—"
    for size, unit in ((1e6, "M"), (1e3, "K")):
        if value >= 100 * size or (value >= size and unit == "M"):
            return f"{value / size:,.4g}{unit}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{share:.1%}" if share < 10 else f"{share:,.0%}"


def _wait(row: Row) -> str:
    return "without end" if row.mean_wait_s is None else f"{row.mean_wait_s:.1f} s"


def _tables(plan: CapacityPlan, played: list[Simulated]) -> Tables:
    columns = ["", "needed", "limit", "in use", "refused", "breaks at", "quota"]
    rows = []
    for row in plan.rows:
        value = "none" if row.value is None else _amount(row.value)
        cells = [row.limit, _amount(row.demand), value, _percent(row.utilisation), _percent(row.refused_share)]
        cells += [_amount(row.breaks_at_calls), _amount(row.ask_for)]
        rows.append(cells)
    call = [[name, _amount(getattr(plan.profile, name)), plan.origins[name]] for name in FIELDS]
    waits = [
        [row.limit, _percent(row.waiting_share), _wait(row)]
        for row in plan.rows
        if row.value is not None and row.waiting_share is not None
    ]
    tables: Tables = [("What the services must carry (breaks at: calls; quota: to ask for)", columns, rows)]
    if waits:
        tables.append(("Where callers wait instead of being refused", ["", "wait", "mean wait"], waits))
    if played:
        told = {row.limit: row.refused_share for row in plan.rows}
        shares = [[item.limit, _percent(told[item.limit]), _percent(item.refused_share)] for item in played]
        tables.append(("Refused, event by event", ["", "formula", "simulated"], shares))
    tables.append(("The mean call", ["", "value", "from"], call))
    if plan.costs is not None:
        costs = [[item, f"${value:.4f}"] for item, value in plan.costs.items.items()]
        costs += [["a call", f"${plan.costs.call:.4f}"], ["an hour at this load", f"${plan.costs.hour:,.2f}"]]
        if plan.costs.day is not None:
            costs.append(["a day", f"${plan.costs.day:,.2f}"])
        tables.append(("Cost, US dollars", ["", "amount"], costs))
    return tables


def _page(plan: CapacityPlan, tables: Tables) -> str:
    per_call = demand_per_call(plan.profile)
    lines = [
        LimitLine(row.limit, per_call[row.limit] / row.value, row.breaks_at_calls)
        for row in plan.rows
        if row.value is not None
    ]
    sources = [[row.limit, row.source] for row in plan.rows]
    return render_plan(
        "Capacity plan", answer(plan), plan.targets.calls, lines, [*tables, ("Sources", ["limit", "source"], sources)]
    )


def _print(console: Console, plan: CapacityPlan, tables: Tables, html: Path | None) -> None:
    rate = f"{plan.targets.calls:,.0f} calls at once, {plan.arrival_rate_per_s:,.3g} calls a second"
    if plan.busy_hour_calls is not None:
        rate += f"; {plan.targets.daily_calls:,.0f} a day are {plan.busy_hour_calls:,.0f} at once in the busiest hour"
    console.print(rate)
    for title, columns, rows in tables:
        table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(answer(plan), style="bold")
    if plan.costs is None:
        console.print("No prices: add cost: to the scenario to have the plan priced.", style="dim")
    if html is not None:
        console.print(f"Plot: {html}")
