"""After the load: single probe calls, one at a time, and looks at the target's health, until all is well or time is up.

The probes are real calls of this process with a recorder of their own: nothing of them gets into the run's numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import uvloop
from python_socks import ProxyError

from voxload.clock import NS_PER_S, monotonic_ns, unix_ns
from voxload.dialects.registry import build_dialect
from voxload.engine.call import Call
from voxload.engine.context import CallContext
from voxload.engine.media import Media
from voxload.engine.network import Network, open_network
from voxload.engine.reach import Web, open_web, tls_words
from voxload.engine.transport import SocketLine
from voxload.errors import RunAbortedError
from voxload.load.workload import Workload
from voxload.measure.recovery import settled
from voxload.measure.summary import CallRecord, HealthLook, Recovery
from voxload.model.json_path import MISSING, compile_path
from voxload.model.outcome import Outcome
from voxload.model.plan import Plan
from voxload.model.recovery import HealthCheck, RecoverySettings, parse_expectation
from voxload.model.template import expand
from voxload.ring import Due
from voxload.runners.prepare import Prepared
from voxload.timer import WheelTimer
from voxload.wheel import Wheel

FIRST_PROBE = 1 << 40
"""Index of the first probe: no call of the load has it, so that their random numbers differ."""
BODY_BYTES_MAX = 1024 * 1024
LOOKS_MAX = 1000
INTERRUPTED = "interrupted (Ctrl-C)"
PHASE = "recovery"


class RecoveryCheck:
    """One look after the load; call `look_before` before the first call and `run` after the last one."""

    def __init__(self, prepared: Prepared, settings: RecoverySettings) -> None:
        self._settings = settings
        self._plan = _probe_plan(prepared.plan, settings.call or prepared.scenario.calls[0].name)
        self._workload = Workload(self._plan)
        self._ended_ns = 0
        self._before: list[HealthLook] = []
        self._looks: list[HealthLook] = []
        self._probes: list[CallRecord] = []
        self._recovery_time_s: float | None = None
        self._problem = ""
        self._stop = asyncio.Event()
        self._call: Call | None = None

    def look_before(self) -> None:
        """Read the health endpoints: what is held already is not held against the load."""
        if self._settings.health:
            self._before = uvloop.run(self._look_once())

    def run(self, ended_ns: int) -> Recovery:
        """Look until all is well or time is up; `ended_ns` is when the last call was over. Ctrl-C ends it."""
        self._ended_ns = ended_ns
        uvloop.run(self._run())
        return self._result()

    def _result(self) -> Recovery:
        return Recovery(
            after_s=self._settings.after_ns / NS_PER_S,
            lasted_s=self._since_s(),
            probes_wanted=self._settings.probes,
            probes=self._probes,
            recovery_time_s=self._recovery_time_s,
            before=self._before,
            looks=self._looks[-LOOKS_MAX:],
            problem=self._problem,
        )

    def _since_s(self) -> float:
        return max(monotonic_ns() - self._ended_ns, 0) / NS_PER_S

    # --- the course of it ---

    async def _look_once(self) -> list[HealthLook]:
        self._ended_ns = monotonic_ns()
        async with open_web(self._workload) as web:
            looks = [await self._look(web, check) for check in self._settings.health]
        return [msgspec.structs.replace(look, at_s=-0.001) for look in looks]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        work = loop.create_task(self._watch())

        def on_signal() -> None:
            if self._stop.is_set():
                work.cancel()
            self._interrupt(INTERRUPTED)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        try:
            await work
        except asyncio.CancelledError:
            pass
        except RunAbortedError as error:
            self._problem = self._problem or str(error)
        except Exception as error:  # noqa: BLE001  # whatever happens here, the load's numbers must be reported
            self._problem = self._problem or f"a defect of voxload: {error!r}"

    def _interrupt(self, reason: str) -> None:
        self._problem = self._problem or reason
        self._stop.set()
        if self._call is not None:
            self._call.cancel(monotonic_ns())

    async def _watch(self) -> None:
        settings = self._settings
        deadline_ns = self._ended_ns + settings.after_ns
        async with self._prober() as (context, network):
            while True:
                looks = [await self._look(network.web, check) for check in settings.health]
                self._looks += looks
                missing = settings.probes - sum(probe.outcome == Outcome.COMPLETED for probe in self._probes)
                over = self._stop.is_set() or monotonic_ns() >= deadline_ns
                if over or settled(looks, self._result()):
                    return
                if missing > 0:
                    await self._probe(context, network)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(settings.interval_ns / NS_PER_S):
                        await self._stop.wait()

    # --- health ---

    async def _look(self, web: Web, check: HealthCheck) -> HealthLook:
        """Read an endpoint."""
        url = expand(check.get, self._plan.constants)
        url = url if "://" in url else self._plan.target + url
        try:
            async with web.request("GET", url, headers=self._workload.headers()) as answer:
                status, body = answer.status, await answer.content.read(BODY_BYTES_MAX)
                while not answer.content.at_eof() and len(body) < BODY_BYTES_MAX:
                    body += await answer.content.read(BODY_BYTES_MAX - len(body))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, ProxyError, RunAbortedError) as error:
            said = tls_words(error) or self._plan.redact(str(error)) or type(error).__name__
            reason = f"it cannot be read: {said}"
            return HealthLook(self._since_s(), check.get, check.sessions is not None, broken=[reason])
        return judge_body(check, status, body, self._since_s())

    # --- probes ---

    @contextlib.asynccontextmanager
    async def _prober(self) -> AsyncIterator[tuple[CallContext, Network]]:
        """Get ready to place calls from this process."""
        workload, loop = self._workload, asyncio.get_running_loop()
        settings = workload.scenario.dialect
        dialect = build_dialect(settings.name, self._plan.target, settings.options)
        wheel = Wheel(monotonic_ns())
        wheel.failed = self._on_callback_failed
        context = CallContext.of(
            workload,
            dialect,
            Media(dialect, workload),
            wheel,
            monotonic_ns,
            self._ended_ns,
            unix_ns() - monotonic_ns(),
        )
        async with open_network(workload, dialect, monotonic_ns, self._interrupt) as network:
            timer = WheelTimer.on_loop(wheel, monotonic_ns, loop)
            timer.start()
            try:
                yield context, network
            finally:
                timer.stop()
                network.hang_up()

    async def _probe(self, context: CallContext, network: Network) -> None:
        """Place one call and wait until it is over."""
        number = len(self._probes)
        spec = self._workload.call(FIRST_PROBE + number, PHASE)
        call_id = f"{self._plan.run_id}-{PHASE}-{number}"
        spec = msgspec.structs.replace(spec, call_id=call_id, values={**spec.values, "call_id": call_id})
        over = asyncio.Event()
        due_ns = monotonic_ns()
        call = self._call = Call(spec, due_ns, context, lambda _: over.set(), lambda _: None)
        call.line = SocketLine(call, network)
        call.start(due_ns)
        await over.wait()
        self._call = None
        for record in context.recorder.take(0, 0, 0.0, 0.0).calls:
            self._probes.append(record)
            if record.outcome == Outcome.COMPLETED and self._recovery_time_s is None:
                self._recovery_time_s = record.due_s

    def _on_callback_failed(self, _callback: Due, error: Exception) -> None:
        if self._call is not None:
            self._call.on_failed(Outcome.INTERNAL_ERROR, repr(error), monotonic_ns())


def judge_body(check: HealthCheck, status: int, body: bytes, at_s: float) -> HealthLook:
    """Return what an answer of a health endpoint says."""
    counts = check.sessions is not None
    if status >= 400:
        return HealthLook(at_s, check.get, counts, broken=[f"it answered {status}"])
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return HealthLook(at_s, check.get, counts, broken=[f"it answered {status} with something that is not JSON"])
    broken = [reason for text in check.expect if (reason := parse_expectation(text).broken(data))]
    numbers = [_number(path, data) for path in (check.sessions, check.of)]
    wanted = zip((check.sessions, check.of), numbers, strict=True)
    broken += [f"there is no number at {path}" for path, number in wanted if path is not None and number is None]
    return HealthLook(at_s, check.get, counts, numbers[0], numbers[1], broken)


def _number(path: str | None, data: Any) -> float | None:
    found = MISSING if path is None else compile_path(path)(data)
    if isinstance(found, int | float) and not isinstance(found, bool) and found >= 0:
        return float(found)
    return None


def _probe_plan(plan: Plan, call: str) -> Plan:
    """Return the run's plan with the probes' kind of call alone, placed by a calm caller and not priced."""
    calls = [item for item in plan.scenario["calls"] if item["name"] == call]
    left_out = ("personas", "cost", "record", "quality", "side_traffic")
    rest = {key: value for key, value in plan.scenario.items() if key not in left_out}
    return msgspec.structs.replace(plan, scenario={**rest, "calls": calls})
