"""Outbound calls by the real SDK through the stand-in: what a user sees without an Azure resource."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request
from typing import Any

import pytest

from voxload.clock import monotonic_ns, unix_ns
from voxload.errors import BadInputError, RunAbortedError
from voxload.measure.collector import Collector
from voxload.measure.recorder import Recorder
from voxload.model.exchange import DEVELOPMENT_KEY
from voxload.model.source import Source
from voxload.services.acs.component import AcsComponent
from voxload.services.acs.options import AcsSettings
from voxload.services.base import ComponentRun
from voxload.services.runner import ComponentResult, ComponentRunner
from voxload.services.settings import read_settings
from voxload.standins.acs.process import ExchangeProcess
from voxload.standins.acs.tokens import IDENTITY_PATH
from voxload.standins.log import COUNTERS_PATH

CALLS = 8
QUICK = {"callee": {"answer_delay": "50ms", "reaction": "50ms", "digits": "5"}}
TIMEOUTS = {"connected": "3s", "recognized": "2s", "media": "2s", "disconnected": "2s"}


class Placed:
    """Calls placed in this process, on a stand-in of these settings."""

    def __init__(self, exchange: ExchangeProcess | None = None, environ: dict[str, str] | None = None) -> None:
        self.exchange, self.environ = exchange, environ or {}
        self.collector = Collector()
        self.result = ComponentResult()
        self.component: AcsComponent | None = None

    async def place(self, load: dict[str, Any] | None = None, **options: Any) -> Placed:
        written = {"hold": "300ms", "timeouts": TIMEOUTS} | options
        if self.exchange is not None:
            written = {"endpoint": self.exchange.url} | written
            if not {"entra", "connection_string"} & set(options):
                written = {"access_key": DEVELOPMENT_KEY} | written
        load = load or {"shape": "constant", "arrival_rate": 4 * CALLS, "duration": "250ms"}
        source = Source({"component": "acs", "load": load, "options": written}, "")
        recorder = Recorder(lateness_metric="loop_lateness")
        settings = read_settings(source, AcsSettings, self.environ)
        self.component = AcsComponent(settings, ComponentRun("run", recorder, monotonic_ns, unix_ns))
        self.result = await ComponentRunner(self.component, recorder, self.collector.add).run()
        return self

    @property
    def ended(self) -> dict[str, int]:
        return dict(self.collector.outcomes)

    @property
    def texts(self) -> str:
        return "; ".join(error.text for error in self.collector.errors())

    def counters(self) -> dict[str, Any]:
        assert self.exchange is not None
        with urllib.request.urlopen(self.exchange.url + COUNTERS_PATH) as answer:
            return dict(json.load(answer))


@pytest.fixture(scope="module")
def exchange():
    with ExchangeProcess(QUICK) as process:
        yield process


async def test_a_call_from_create_to_disconnected(exchange):
    placed = await Placed(exchange).place(recognize={"tones_max": 1})
    assert placed.ended == {"completed": CALLS}, placed.texts
    for metric in ("call_setup", "recognize", "media_start", "hang_up", "call_duration"):
        assert placed.collector.histogram(metric).count == CALLS, metric
    assert placed.collector.histogram("call_setup").minimum >= 50e6
    facts, counters = placed.component.facts(), placed.counters()
    assert int(facts["audio packets received"]) >= CALLS * 5
    assert counters["active_calls"] == 0
    assert counters["calls"]["created"] >= CALLS


@pytest.mark.parametrize("rate", [False, 24000])
async def test_without_media_or_at_another_rate(exchange, rate):
    placed = await Placed(exchange).place(media=rate, recognize=None, hold="100ms")
    assert placed.ended == {"completed": CALLS}, placed.texts
    assert placed.collector.histogram("media_start").count == (CALLS if rate else 0)
    assert placed.collector.histogram("recognize").count == 0


async def test_a_connection_string(exchange):
    string = f"endpoint={exchange.url}/;accesskey={DEVELOPMENT_KEY}"
    options = {"connection_string": {"env": "ACS"}, "endpoint": exchange.url}
    placed = await Placed(exchange, {"ACS": string}).place(**options)
    assert placed.ended == {"completed": CALLS}, placed.texts


async def test_entra_by_managed_identity(exchange, monkeypatch):
    monkeypatch.setenv("IDENTITY_ENDPOINT", exchange.url + IDENTITY_PATH)
    monkeypatch.setenv("IDENTITY_HEADER", exchange.identity_header)
    placed = await Placed(exchange).place(entra=True)
    assert placed.ended == {"completed": CALLS}, placed.texts


async def test_a_wrong_key(exchange):
    with pytest.raises(RunAbortedError, match="cannot be used: the service: 401"):
        await Placed(exchange).place(access_key="d3Jvbmc=")


ENDINGS = {
    "declined": ({"callee": {"outcomes": {"declined": 1}, "answer_delay": "20ms"}}, "rejected", "603"),
    "no answer": ({"callee": {"outcomes": {"no_answer": 1}}, "ring_timeout": "300ms"}, "rejected", "480"),
    "hangs up": (
        {"callee": {"answer_delay": "20ms", "hang_up_after": "100ms", "reaction": "2s"}},
        "dropped_by_target",
        "recogn",
    ),
    "presses no key": ({"callee": {"answer_delay": "20ms", "digits": ""}}, "step_failed", "RecognizeFailed"),
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_outcome_and_step(name):
    settings, outcome, words = ENDINGS[name]
    with ExchangeProcess(settings) as process:
        placed = await Placed(process).place(recognize={"silence": "1s"})
        assert placed.ended == {outcome: CALLS}, placed.texts
        assert words in placed.texts
        assert placed.counters()["active_calls"] == 0


async def test_limits_are_hit_waited_out_and_counted():
    with ExchangeProcess({**QUICK, "limits": {"concurrent_calls": 5}}) as process:
        placed = await Placed(process).place(hold="200ms", media=False)
    assert placed.ended == {"completed": CALLS}, placed.texts
    statuses = placed.collector.totals().http_requests["create"]
    assert statuses["2xx"] == CALLS
    assert statuses["429"] >= 3
    assert placed.component.facts()["429 answers"] == str(statuses["429"])
    assert placed.collector.histogram("call_setup").maximum > 1e9, "the service asks for a second, which counts"
    assert placed.component.facts()["most calls up at once"] <= "5"


async def test_its_own_stand_in_which_dies():
    placed = Placed()

    async def kill() -> None:
        while placed.component is None or not placed.component.active(0):  # noqa: ASYNC110  # it has no event to offer
            await asyncio.sleep(0.05)
        os.kill(placed.component.stand_in_pid, signal.SIGKILL)

    killer = asyncio.create_task(kill())
    await placed.place({"shape": "constant", "arrival_rate": 10, "duration": "60s"}, hold="10s", service=QUICK)
    await killer
    assert placed.result.cut_short == "the stand-in for ACS died"
    assert placed.ended.get("completed", 0) == 0


async def test_settings_of_the_stand_in_are_checked():
    with pytest.raises(BadInputError, match="callee"):
        await Placed().place(service={"callee": {"outcomes": {"asleep": 1}}})
