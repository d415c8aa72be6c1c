"""The frame of component tests, with a component that only waits: instants, endings, Ctrl-C, a service lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

import pytest

from voxload.clock import monotonic_ns, unix_ns
from voxload.errors import BadInputError, RunAbortedError
from voxload.measure.collector import Collector
from voxload.measure.recorder import Recorder
from voxload.measure.summary import CallRecord
from voxload.model.base import Model
from voxload.model.outcome import Outcome
from voxload.model.source import Source
from voxload.services.base import Component, ComponentRun, Operation, OperationFailedError
from voxload.services.runner import ComponentResult, ComponentRunner
from voxload.services.settings import ComponentSettings, Secret, read_settings


class WaitOptions(Model):
    url: str = "http://127.0.0.1:9"
    key: Secret = Secret()


class WaitSettings(ComponentSettings):
    component: Literal["wait"]
    options: WaitOptions = WaitOptions()


class WaitComponent(Component[WaitSettings]):
    """Waits; what it does else is set by the test."""

    name = "wait"
    settings_type = WaitSettings
    target_option = "url"
    wait_s = 0.05
    block_s = 0.0
    fails_from = 1 << 30
    failure: Exception = OperationFailedError(Outcome.CONNECT_FAILED, "refused")

    def __init__(self, settings: WaitSettings, run: ComponentRun) -> None:
        super().__init__(settings, run)
        self.cleaned, self.torn_down = 0, False

    @property
    def target(self) -> str:
        return self.settings.options.url

    async def set_up(self) -> None:
        pass

    async def operate(self, operation: Operation) -> None:
        if operation.index >= self.fails_from:
            raise self.failure
        if operation.index == 0 and self.block_s:
            time.sleep(self.block_s)  # noqa: ASYNC251  # a client that blocks the loop is what the test is about
        try:
            await asyncio.sleep(self.wait_s)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            self.cleaned += 1
            raise

    async def tear_down(self) -> None:
        self.torn_down = True


class Ran:
    """A run and what it left."""

    def __init__(self, load: dict[str, Any], environ: dict[str, str] | None = None, **settings: Any) -> None:
        source = Source({"component": "wait", "load": load, **settings}, "wait.yaml")
        self.settings = read_settings(source, WaitSettings, environ or {})
        self.collector, self.calls = Collector(), list[CallRecord]()
        recorder = Recorder(lateness_metric="loop_lateness")
        self.component = WaitComponent(self.settings, ComponentRun("run", recorder, monotonic_ns, unix_ns))
        self.runner = ComponentRunner(self.component, recorder, self.take)
        self.result = ComponentResult()

    def take(self, snapshot: Any) -> None:
        self.collector.add(snapshot)
        self.calls += snapshot.calls

    async def __call__(self, **changes: Any) -> Ran:
        for name, value in changes.items():
            setattr(self.component, name, value)
        async with asyncio.timeout(20):
            self.result = await self.runner.run()
        assert self.component.torn_down
        return self

    def ms(self, metric: str, share: float) -> float:
        value = self.collector.histogram(metric).quantile(share)
        assert value is not None, metric
        return value / 1e6


def constant(rate: float, duration: str = "1s") -> dict[str, Any]:
    return {"shape": "constant", "arrival_rate": rate, "duration": duration}


async def test_open_load_counts_and_times_every_unit_of_work() -> None:
    ran = await Ran(constant(40))()
    assert ran.collector.outcomes == {"completed": 40}
    assert ran.result.cut_short == ""
    assert 50 <= ran.ms("operation_latency", 0.5) < 150
    assert ran.collector.histogram("operation_success").count == 40
    assert sorted(call.index for call in ran.calls) == list(range(40))
    assert [call.due_s for call in sorted(ran.calls, key=lambda c: c.index)] == pytest.approx(
        [k / 40 for k in range(40)]
    )


async def test_a_stalled_loop_is_not_hidden() -> None:
    """Latency counts from the intended instant, and the loop's lateness is on record."""
    ran = await Ran(constant(50))(block_s=0.5)
    assert ran.ms("operation_latency", 0.99) > 400
    assert ran.ms("operation_latency_uncorrected", 0.4) < ran.ms("operation_latency", 0.4)
    assert ran.ms("loop_lateness", 0.99) > 300
    assert ran.collector.shard_health()[0].lateness_max_ms > 300  # type: ignore[operator]


async def test_what_is_done_before_the_first_unit_of_work_makes_none_late() -> None:
    ran = Ran(constant(50, "500ms"))
    ran.runner = ComponentRunner(ran.component, ran.component.run.recorder, ran.take, on_ready=lambda: time.sleep(0.5))
    await ran()
    assert ran.ms("loop_lateness", 1.0) < 400


async def test_closed_load_keeps_its_number_of_callers() -> None:
    load = {"shape": "concurrency", "concurrency": 7, "duration": "1s"}
    ran = await Ran(load)(wait_s=0.1)
    assert set(ran.collector.outcomes) == {"completed"}
    assert 40 <= ran.collector.outcomes["completed"] <= 70
    assert len({call.index for call in ran.calls}) == len(ran.calls)


async def test_more_than_may_be_up_is_shed() -> None:
    ran = await Ran(constant(40, "500ms"), operations_max=5)(wait_s=0.7)
    assert ran.collector.outcomes == {"completed": 5, "shed": 15}


async def test_what_takes_too_long_or_is_our_own_defect() -> None:
    ran = await Ran(constant(20), timeout="100ms")(wait_s=5, fails_from=10, failure=KeyError("x"))
    assert ran.collector.outcomes == {"timeout": 10, "internal_error": 10}
    assert ran.collector.histogram("operation_success").count == 10


async def test_stop_cancels_cleans_up_and_keeps_the_numbers() -> None:
    ran = Ran(constant(20, "60s"))
    asyncio.get_running_loop().call_later(1, lambda: ran.runner.stop("interrupted"))
    await ran(wait_s=0.6)
    assert ran.result.cut_short == "interrupted"
    assert ran.collector.outcomes["cancelled"] == ran.component.cleaned > 5
    assert ran.collector.outcomes["completed"] > 2


async def test_stop_ends_a_closed_load_too() -> None:
    ran = Ran({"shape": "concurrency", "concurrency": 5, "duration": "60s"})
    asyncio.get_running_loop().call_later(0.5, lambda: ran.runner.stop("interrupted"))
    await ran(wait_s=0.1)
    assert ran.collector.outcomes["completed"] >= 5


async def test_a_service_that_vanishes_ends_the_run_and_is_said() -> None:
    ran = await Ran(constant(50, "60s"))(fails_from=50)
    assert "http://127.0.0.1:9 is gone since" in ran.result.cut_short
    assert ran.collector.outcomes["completed"] == 50
    assert ran.result.duration_s < 10


async def test_a_service_that_never_was_there() -> None:
    ran = await Ran(constant(3))(fails_from=0)
    assert "cannot be reached" in ran.result.cut_short


async def test_a_limit_of_ours_is_not_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxload.services.runner.files_left", lambda: False)
    monkeypatch.setattr(WaitComponent, "doubt", lambda _: "the stand-in was out of open files")
    ran = await Ran(constant(40))(fails_from=0)
    assert ran.collector.outcomes == {"shed": 40}
    assert ran.result.cut_short == ""
    assert ran.result.doubts == ["the stand-in was out of open files"]


async def test_refusals_are_no_absence() -> None:
    ran = await Ran(constant(40))(fails_from=0, failure=OperationFailedError(Outcome.REJECTED, "403"))
    assert ran.collector.outcomes == {"rejected": 40}
    assert ran.result.cut_short == ""


async def test_secrets_stay_out_of_the_results() -> None:
    settings = {"options": {"key": {"env": "WAIT_KEY"}}}
    ran = Ran(constant(5), {"WAIT_KEY": "hunter22"}, **settings)
    await ran(fails_from=0, failure=OperationFailedError(Outcome.REJECTED, "the key hunter22 is wrong"))
    assert {call.error for call in ran.calls} == {"the key *** is wrong"}


async def test_tear_down_follows_a_set_up_that_fails() -> None:
    ran = Ran(constant(5))

    async def refuse() -> None:
        raise RunAbortedError("no")

    with pytest.raises(RunAbortedError):
        await ran(set_up=refuse)
    assert ran.component.torn_down


def test_all_problems_of_a_file_at_once() -> None:
    data = {
        "component": "wait",
        "gates": ["p95(nonsense) < 1s"],
        "timeout": "soon",
        "options": {"key": {"env": "WAIT_KEY"}, "uri": "x"},
    }
    lines = {("gates", 0): 2, ("timeout",): 3, ("options", "key"): 5, ("options", "uri"): 6}
    with pytest.raises(BadInputError) as caught:
        read_settings(Source(data, "wait.yaml", lines), WaitSettings, {})  # type: ignore[arg-type]
    assert [problem.line for problem in caught.value.problems] == [2, 3, 5, 6]
    assert "WAIT_KEY" in str(caught.value)
