"""Calls over real sockets leave nothing behind, at the caller's side and at the agent's, without garbage collection."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

import pytest
import uvloop

from voxload.clock import NS_PER_MS, monotonic_ns
from voxload.dialects.registry import build_dialect
from voxload.engine import shard as shard_module
from voxload.engine.listener import Listener
from voxload.engine.shard import Shard
from voxload.engine.speaker import Speaker
from voxload.engine.transport import SocketLine
from voxload.model.plan import Plan
from voxload.model.twin import TwinSettings
from voxload.serving import listen
from voxload.twin.agent import Agent
from voxload.twin.replies import CorpusRepertoire
from voxload.twin.server import CallSocket, TwinServer

SCENARIO = {
    "name": "freed",
    "target": "twin",
    "load": {"shape": "constant", "arrival_rate": 20, "duration": "1500ms"},
    "calls": [{"name": "short", "script": ["wait_for_agent"]}],
    "timeouts": {"setup": "1s", "connect": "1s", "hang_up": "1s", "agent_reply": "1s"},
}
KINDS = (SocketLine, Speaker, Listener, Agent, CallSocket)


async def play() -> Counter[str]:
    """Place 30 calls; returns what is left of them at the end of the last."""
    listener, address = listen("127.0.0.1", 0)
    dialect = build_dialect("rtmed", address, {})
    server = TwinServer(TwinSettings(), dialect, CorpusRepertoire(dialect, 0.5))
    await server.start(listener)
    reports: list[object] = []
    gc.collect()
    gc.disable()
    try:
        shard = Shard(Plan("freed", SCENARIO, address), 0, 1, reports.append)
        await shard.run(monotonic_ns() + 50 * NS_PER_MS)
        await asyncio.sleep(0.2)
        del shard
        return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, KINDS))
    finally:
        gc.enable()
        await server.stop()


def test_what_a_call_held_is_free_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_module, "freeze_garbage", lambda: None)
    left = uvloop.run(play())
    assert left["Agent"] + left["CallSocket"] == 0
    assert max(left.values(), default=0) <= 15, left  # the time-outs of the last second stand on the wheel still
