"""Callers in this very process, for tests of what is said over sockets: several scenarios at once, each a shard."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from voxload.cli.run import run_facts
from voxload.clock import NS_PER_MS, monotonic_ns
from voxload.engine.shard import Shard
from voxload.engine.wire import Snapshot
from voxload.measure.collector import Collector
from voxload.measure.summarize import build_summary
from voxload.measure.summary import Summary
from voxload.process import prefer_this_process
from voxload.runners.estimate import plan_facts
from voxload.runners.prepare import prepare
from voxload.runners.runner import RunData

Right = Callable[[str, Summary], bool]
"""Whether what was measured of a scenario is as it should be."""


def place(
    folder: Path, scenarios: Mapping[str, dict[str, Any]], apart_ms: int = 0, right: Right = lambda *_: True
) -> dict[str, Summary]:
    """Place the calls of all scenarios on their targets; returns what was measured of each, not yet judged.

    Each begins `apart_ms` after the one before, so that not all set-ups fall together. What is not `right` is placed
    again, twice at most: other work on the machine may disturb a run, and what is wrong is wrong every time.
    """
    found: dict[str, Summary] = {}
    for _ in range(3):
        left = {name: each for name, each in scenarios.items() if name not in found or not right(name, found[name])}
        if not left:
            break
        found |= _place(folder, left, apart_ms)
    return found


def _place(folder: Path, scenarios: Mapping[str, dict[str, Any]], apart_ms: int) -> dict[str, Summary]:
    prepared, collectors = {}, {}
    for name, scenario in scenarios.items():
        file = folder / "scenario.json"
        file.write_bytes(msgspec.json.encode(scenario))  # JSON is YAML
        prepared[name], collectors[name] = prepare(file, environ={}), Collector()

    async def run() -> None:
        begin_ns = monotonic_ns() + 200 * NS_PER_MS
        async with asyncio.TaskGroup() as tasks:
            for number, name in enumerate(scenarios):

                def emit(message: object, collector: Collector = collectors[name]) -> None:
                    assert isinstance(message, Snapshot)
                    collector.add(message)

                shard = Shard(prepared[name].plan, 0, 1, emit)
                tasks.create_task(shard.run(begin_ns + number * apart_ms * NS_PER_MS))

    log, collected_at, nice = logging.getLogger("picows"), gc.get_threshold(), os.getpriority(os.PRIO_PROCESS, 0)
    told = log.level
    log.setLevel(logging.CRITICAL)  # as in a process of its own
    prefer_this_process()
    try:
        uvloop.run(run())
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        log.setLevel(told)
        gc.unfreeze()
        gc.set_threshold(*collected_at)
    found = {}
    for name, each in prepared.items():
        facts = plan_facts(each, 1)
        run_of = run_facts(each, RunData(collectors[name], facts.load_duration_s), "2026-01-01T00:00:00+00:00")
        found[name] = build_summary(collectors[name], run_of, facts, each.scenario.load)
    return found
