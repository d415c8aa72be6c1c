"""`python -m benchmarks.run`: all of the benchmark, or parts of it, in one run (about fifteen minutes on two cores)."""

from __future__ import annotations

import argparse
import json
import os
import sys

from rich.console import Console

from benchmarks import growth, loads, memory, page, peers, pieces, profile, redis_rates, table
from benchmarks.page import Section
from voxload.clock import NS_PER_S, monotonic_ns
from voxload.process import raise_file_limit

DEFAULT = ("peers", "loads", "growth", "profile", "soak", "redis", "micro")

QUICK_MACHINES = (loads.MachineLoad(200, 10, duplex=False), loads.MachineLoad(100, 50, duplex=True))


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 0, or 1 when something that must work did not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", default=",".join(DEFAULT), help=f"comma-separated, of {', '.join(page.TITLES)}")
    parser.add_argument("--peers", default=",".join(peers.PEERS), help="comma-separated; also: bare")
    parser.add_argument("--quick", action="store_true", help="a rough look: fewer modes and calls, shorter")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--write", action="store_true", help=f"put what was found into {page.PAGE.name}")
    args = parser.parse_args(arguments)
    names, chosen = args.only.split(","), args.peers.split(",")
    for kind, given, known in (("part", names, page.TITLES), ("peer", chosen, peers.NEEDS)):
        for name in given:
            if name not in known:
                parser.error(f"no {kind} {name!r}; there are {', '.join(known)}")
    console, progress = Console(width=None if sys.stdout.isatty() else 180), Console(stderr=True)
    if len(os.sched_getaffinity(0)) < 2:
        progress.print("[yellow]one core only: client and target share it, and the limits mean little[/yellow]")
    raise_file_limit()
    found, all_held = {}, True
    for name in names:
        about, began_ns = table.facts(), monotonic_ns()
        section = _measure(name, chosen, args.quick, progress, about, None if args.json else console, args.write)
        progress.print(f"{page.TITLES[name]}: {(monotonic_ns() - began_ns) / NS_PER_S:.0f} s", markup=False)
        found[name] = section.data
        all_held = all_held and section.held
        if args.write:
            page.keep(name, section, about)
        if not args.json and name != "peers":
            console.print(f"\n[bold]{page.TITLES[name]}[/bold]")
            console.print("\n".join(section.lines), highlight=False, markup=False)
    if args.json:
        console.print_json(json.dumps(found))
    return 0 if all_held else 1


def _measure(
    name: str,
    chosen: list[str],
    quick: bool,
    progress: Console,
    about: dict[str, str],
    console: Console | None,
    write: bool,
) -> Section:
    match name:
        case "peers":
            section, cells = peers.measure(chosen, progress, quick, about)
            if console is not None:
                table.show(console, cells, about)
            return section
        case "loads":
            return loads.section(progress, *((loads.LOADS[:1], QUICK_MACHINES, 1.0) if quick else ()))
        case "growth":
            section, steps = growth.measure(progress, *((1000, 1.0) if quick else ()))
            problem = growth.draw(steps) if write else ""
            return Section([*section.lines[:-2], problem], section.data, section.held) if problem else section
        case "profile":
            found = profile.section(progress, *((0.1, 1.0) if quick else ()))
            if write and found.data is not None:
                profile.write(found)
            return found
        case "soak":
            return memory.section("20m" if quick else "1h")
        case "long_soak":
            return memory.section("10m", "60s", 100) if quick else memory.section("24h", "10m", 500)
        case "redis":
            return redis_rates.section(0.5 if quick else 4.0)
        case _:
            return pieces.section(quick)


if __name__ == "__main__":
    sys.exit(main())
