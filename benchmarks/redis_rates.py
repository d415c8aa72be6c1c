"""`python -m benchmarks.redis_rates`: `voxload component redis` beside redis-benchmark on the same server.

Both keep the same number of connections busy (closed load). redis-benchmark is C and does nothing with the answers;
voxload is redis-py, counts, checks and cleans up: the ratio says what one process of voxload can ask of a server, and
the latency of one connection alone how much of a measured latency is the client's own.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import shutil
import subprocess
import sys
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.page import Section, grid
from voxload.clock import monotonic_ns, unix_ns
from voxload.measure.collector import Collector
from voxload.measure.recorder import Recorder
from voxload.model.source import Source
from voxload.services.base import ComponentRun
from voxload.services.redis.component import RedisComponent
from voxload.services.redis.options import RedisSettings
from voxload.services.redis.server import RedisServer, find_program
from voxload.services.runner import ComponentRunner
from voxload.services.settings import read_settings

COMMANDS_A_SESSION = 25
PIPELINE = 20
MISSING = "redis-benchmark is not installed (Debian: redis-tools): the Redis rates are left out"
FIELDS = ("message_1", "User message 1", "response_1", "Agent response 1")


async def peer(port: int, clients: int, seconds: float, pipeline: int) -> dict[str, float]:
    """Return what redis-benchmark measures for the update of a conversation."""
    requests = max(round(seconds * 40_000 * (4 if pipeline > 1 else 1) * min(clients, 8) / 8), 1000)
    process = await asyncio.create_subprocess_exec(
        "redis-benchmark",
        *("-p", str(port), "-c", str(clients), "-n", str(requests), "-P", str(pipeline), "--csv"),
        *("HSET", "bench:conversation", *FIELDS),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    row = list(csv.DictReader(io.StringIO(out.decode())))[-1]
    return {"commands_per_s": float(row["rps"]), "p50_ms": float(row["p50_latency_ms"])}


async def ours(port: int, clients: int, seconds: float, *, pipeline: bool) -> dict[str, float]:
    """Return what `voxload component redis` measures with as many sessions at once."""
    load = {"shape": "concurrency", "concurrency": clients, "duration": f"{seconds}s"}
    options = {"url": f"redis://127.0.0.1:{port}", "pipeline": pipeline}
    settings = read_settings(Source({"component": "redis", "load": load, "options": options}, ""), RedisSettings, {})
    recorder, collector = Recorder(lateness_metric="loop_lateness"), Collector()
    component = RedisComponent(settings, ComponentRun("bench", recorder, monotonic_ns, unix_ns))
    result = await ComponentRunner(component, recorder, collector.add).run()
    completed, ended = collector.outcomes["completed"], sum(collector.outcomes.values())
    assert completed == ended, collector.errors()
    p50_ns = collector.histogram("redis_command").quantile(0.5)
    assert p50_ns is not None
    return {"commands_per_s": COMMANDS_A_SESSION * completed / result.duration_s, "p50_ms": p50_ns / 1e6}


async def measure(seconds: float) -> list[dict[str, Any]]:
    """Return one row for each way of asking."""
    rows: list[dict[str, Any]] = []
    server = RedisServer(find_program(shutil.which("redis-server") or ""))
    port = await server.start()
    try:
        for clients, pipeline in ((1, False), (50, False), (50, True)):
            depth = PIPELINE if pipeline else 1
            theirs = await peer(port, clients, seconds, depth)
            mine = await ours(port, clients, seconds, pipeline=pipeline)
            rows.append({"clients": clients, "pipeline": depth, "redis_benchmark": theirs, "voxload": mine})
    finally:
        await server.stop()
    return rows


def show(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print a table."""
    table = Table(title="Redis: commands a second, and the latency that the client sees", title_justify="left")
    for column in ("connections", "pipelined", "redis-benchmark /s", "voxload /s", "share", "p50 theirs", "p50 ours"):
        table.add_column(column, justify="right")
    for row in rows:
        theirs, mine = row["redis_benchmark"], row["voxload"]
        table.add_row(
            str(row["clients"]),
            str(row["pipeline"]) if row["pipeline"] > 1 else "no",
            f"{theirs['commands_per_s']:,.0f}",
            f"{mine['commands_per_s']:,.0f}",
            f"{mine['commands_per_s'] / theirs['commands_per_s']:.0%}",
            f"{theirs['p50_ms']:.2f} ms",
            f"{mine['p50_ms']:.2f} ms",
        )
    console.print(table)
    console.print("A closed load: the latency under it is that of a queue which each client makes as long as it can.")


def section(seconds: float) -> Section:
    """Return the rates as a section of the page."""
    if shutil.which("redis-benchmark") is None:
        return Section([MISSING], None)
    rows = uvloop.run(measure(seconds))
    lines = []
    for row in rows:
        theirs, mine = row["redis_benchmark"], row["voxload"]
        lines.append(
            (
                f"{row['clients']}" + (f", {row['pipeline']} pipelined" if row["pipeline"] > 1 else ""),
                f"{theirs['commands_per_s']:,.0f}",
                f"{mine['commands_per_s']:,.0f}",
                f"{mine['commands_per_s'] / theirs['commands_per_s']:.0%}",
                f"{theirs['p50_ms']:.2f} ms",
                f"{mine['p50_ms']:.2f} ms",
            )
        )
    columns = ("connections", "redis-benchmark /s", "voxload /s", "share", "p50 theirs", "p50 ours")
    return Section(grid(columns, lines), rows)


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns 0, or 1 when redis-benchmark is not installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redis_rates", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    if shutil.which("redis-benchmark") is None:
        console.print(MISSING)
        return 1
    rows = uvloop.run(measure(args.seconds))
    console.print_json(json.dumps(rows)) if args.json else show(console, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
