"""Outbound calls by the real SDK: what a caller of the command sees for services that behave and that do not."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import acs_service
import pytest
from acs_service import Manners

from voxload.clock import monotonic_ns, unix_ns
from voxload.measure.collector import Collector
from voxload.measure.recorder import Recorder
from voxload.model.exchange import DEVELOPMENT_KEY
from voxload.model.source import Source
from voxload.runners.results import read_calls
from voxload.services.acs.component import AcsComponent
from voxload.services.acs.options import AcsSettings
from voxload.services.base import ComponentRun
from voxload.services.runner import ComponentRunner
from voxload.services.settings import read_settings

CALLS = 8
OPTIONS = {"access_key": DEVELOPMENT_KEY, "media": False, "hold": "100ms"}
SHORT = {"connected": "800ms", "recognized": "800ms", "disconnected": "800ms", "request": "1s"}


def document(url: str, load: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"component": "acs", "load": load, "options": OPTIONS | {"endpoint": url, "timeouts": SHORT} | options}


def write(voxload, url: str, load: dict[str, Any] | None = None, **options: Any) -> str:
    load = load or {"shape": "constant", "arrival_rate": CALLS, "duration": "1s"}
    return str(voxload.write(document(url, load, **options), "outbound.yaml"))


def run(voxload, manners: Manners, *arguments: str, **options: Any):
    with acs_service.serve(manners) as service:
        done = voxload("component", "acs", write(voxload, service.url, **options), "--quiet", *arguments)
    assert "Traceback" not in done.err, done.err
    return done, service


def test_calls_are_placed_connected_recognised_and_hung_up(voxload):
    done, service = run(voxload, Manners(), "--gate", "call_success >= 99%", to="+15550100000..+15550100003")
    assert done.code in {0, 4}, done.out + done.err
    summary = done.summary
    assert summary.totals.outcomes == {"completed": CALLS}, summary.errors
    assert service.requests == {"create": CALLS, "recognize": CALLS, "terminate": CALLS}
    assert service.calls == {}
    assert service.targets == [f"4:+1555010000{k % 4}" for k in range(CALLS)]
    for metric, low_ms in (("call_setup", 50), ("recognize", 30), ("hang_up", 20)):
        histogram = summary.histogram(metric)
        assert histogram.count == CALLS
        assert histogram.minimum / 1e6 >= low_ms
    calls = list(read_calls(done.folder))
    assert len({call.target_id for call in calls}) == CALLS
    assert all(len(call.target_id) == 36 for call in calls)
    assert [moment.text for moment in calls[0].moments] == ["five"]
    page = (done.folder / "report.html").read_text()
    assert "Call setup" in page and "azure-communication-callautomation" in page


class Placed:
    """Calls placed in this process."""

    def __init__(self) -> None:
        self.collector = Collector()
        self.facts: dict[str, str] = {}

    async def place(self, manners: Manners, **options: Any) -> acs_service.Service:
        with acs_service.serve(manners) as service:
            load = {"shape": "constant", "arrival_rate": 4 * CALLS, "duration": "250ms"}
            recorder = Recorder(lateness_metric="loop_lateness")
            settings = read_settings(Source(document(service.url, load, **options), ""), AcsSettings, {})
            component = AcsComponent(settings, ComponentRun("run", recorder, monotonic_ns, unix_ns))
            await ComponentRunner(component, recorder, self.collector.add).run()
            self.facts = component.facts()
        return service

    @property
    def ended(self) -> dict[str, int]:
        return dict(self.collector.outcomes)


ENDINGS = {
    "busy": (Manners(connects="CreateCallFailed"), "rejected", "CreateCallFailed 486/5486 busy"),
    "no callback": (Manners(connects=""), "setup_timeout", "callback_url"),
    "garbage": (Manners(garbage=True), "setup_timeout", "no callback"),
    "refused": (Manners(status=400), "rejected", "create: 400 8523 no"),
    "drops": (Manners(drops_after_s=0.09), "dropped_by_target", "486/5486"),
    "recognition fails": (Manners(recognizes="RecognizeFailed"), "step_failed", "RecognizeFailed"),
    "recognition lost": (Manners(recognizes=""), "timeout", "RecognizeCompleted"),
    "never ends": (Manners(disconnects=False), "timeout", "CallDisconnected"),
    "slow": (Manners(create_s=5), "timeout", "timeouts.request"),
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_outcome_and_step(name):
    manners, outcome, words = ENDINGS[name]
    placed = Placed()
    service = await placed.place(manners)
    errors = placed.collector.errors()
    assert placed.ended == {outcome: CALLS}, errors
    assert words in errors[0].text, errors
    if name != "slow":  # a create without an answer leaves no name to hang up by
        assert service.calls == {}, "every call that was created has been hung up"


async def test_too_many_requests_are_waited_out_and_counted():
    placed = Placed()
    service = await placed.place(Manners(throttle_first=5, retry_after_s=0.4))
    assert placed.ended == {"completed": CALLS}, placed.collector.errors()
    assert service.requests["create"] == CALLS + 5
    assert placed.collector.totals().http_requests["create"] == {"429": 5, "2xx": CALLS}
    assert placed.facts["429 answers"] == "5"
    assert placed.collector.histogram("throttled").count == 3 * CALLS + 5
    assert placed.collector.histogram("call_setup").maximum / 1e6 > 400, "the wait counts as latency"


async def test_too_many_requests_for_too_long():
    placed = Placed()
    await placed.place(Manners(throttle_first=1000, retry_after_s=0.01), retries=2)
    assert placed.ended == {"rejected": CALLS}
    assert "create, 3 times: 429" in placed.collector.errors()[0].text


async def test_events_that_come_twice_are_counted():
    placed = Placed()
    await placed.place(Manners(twice=True))
    assert placed.ended == {"completed": CALLS}, placed.collector.errors()
    assert int(placed.facts["callbacks: duplicate"]) >= 2 * CALLS


def test_a_dead_endpoint(voxload):
    done = voxload("component", "acs", write(voxload, "http://127.0.0.1:9"), "--quiet")
    assert done.code == 3
    assert "http://127.0.0.1:9 cannot be used" in done.err


def test_a_service_that_dies(voxload):
    load = {"shape": "constant", "arrival_rate": 20, "duration": "60s"}
    with acs_service.serve(Manners()) as service:
        process = voxload.start("component", "acs", write(voxload, service.url, load), "--quiet")
        while service.requests["terminate"] < 10:
            time.sleep(0.05)
        service.stop()
        done = voxload.finish(process, 40)
    assert done.code == 3, done.out + done.err
    assert "is gone since" in done.summary.run.cut_short
    assert "Traceback" not in done.err


def test_ctrl_c_hangs_up_and_reports(voxload):
    load = {"shape": "concurrency", "concurrency": 10, "duration": "60s"}
    with acs_service.serve(Manners()) as service:
        process = voxload.start("component", "acs", write(voxload, service.url, load, hold="30s"), "--quiet")
        while len(service.calls) < 10:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        done = voxload.finish(process, 40)
        assert service.calls == {}
    assert done.code == 3
    assert done.summary.totals.outcomes == {"cancelled": 10}
    assert "interrupted" in done.summary.run.cut_short


def test_json_and_overrides(voxload):
    done, service = run(voxload, Manners(), "--rate", "4/s", "--duration", "500ms", "--json")
    assert json.loads(done.out)["plan"]["component"] == "acs"
    assert service.requests["create"] == 2
