"""What a component is to the runner: set-up, one unit of work, tear-down, and what it has to tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic

from voxload.clock import Clock
from voxload.measure.recorder import Labels, Recorder
from voxload.measure.summary import LATENESS_LIMIT_MS, CallMoment
from voxload.model.outcome import Outcome
from voxload.services.settings import AnySettings, ComponentSettings

SAMPLES_MAX = 50


class OperationFailedError(Exception):
    """A unit of work ends otherwise than completed; `reason` names the step."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome, self.reason = outcome, reason


@dataclass(slots=True, eq=False)
class Operation:
    """One unit of work. Instants are on the monotonic clock, in ns; latencies count from `due_ns` unless told."""

    index: int
    operation_id: str
    phase: str
    due_ns: int
    clock: Clock
    recorder: Recorder
    labels: Labels
    started_ns: int = 0
    ready_ns: int = 0
    """When it was set up (a call: connected); 0 if it never was."""
    target_id: str = ""
    """The service's own name of it."""
    moments: list[CallMoment] = field(default_factory=list)
    sampled: tuple[str, ...] = ()
    """Latency metrics whose values the record keeps, for comparisons of runs."""
    samples: dict[str, list[float]] = field(default_factory=dict)
    """Those values in ms, at most `SAMPLES_MAX` of each."""

    def latency(self, metric: str, since_ns: int, until_ns: int, **labels: str) -> None:
        """Record a latency between two instants."""
        self.latencies(metric, (max(until_ns - since_ns, 0),), **labels)

    def latencies(self, metric: str, values_ns: Sequence[int], **labels: str) -> None:
        """Record several latencies of one metric."""
        series = self._with(labels)
        for value_ns in values_ns:
            self.recorder.latency(metric, series, value_ns)
        if metric in self.sampled:
            kept = self.samples.setdefault(metric, [])
            kept += [value_ns / 1e6 for value_ns in values_ns[: SAMPLES_MAX - len(kept)]]

    def observe(self, metric: str, value: float, **labels: str) -> None:
        """Record one value of a ratio or a score."""
        self.recorder.observe(metric, self._with(labels), value)

    def moment(self, kind: str, text: str = "") -> None:
        """Note something that happened, for the record of this unit of work."""
        self.moments.append(CallMoment((self.clock() - self.due_ns) / 1e9, kind, text))

    def _with(self, labels: dict[str, str]) -> Labels:
        return tuple(sorted((*self.labels, *labels.items()))) if labels else self.labels


@dataclass(frozen=True, slots=True)
class ComponentRun:
    """What a component is given for a run."""

    run_id: str
    recorder: Recorder
    clock: Clock
    unix_ns: Callable[[], int]


class Component(ABC, Generic[AnySettings]):
    """One kind of service under load, by the vendor's own client.

    Everything runs on one event loop: a client that can only block belongs into threads. An instance serves one run.
    """

    name: ClassVar[str]
    settings_type: ClassVar[type[ComponentSettings]]
    target_option: ClassVar[str]
    """The option that `--target` sets."""
    headline: ClassVar[tuple[str, ...]] = ("operation_latency",)
    """Latency metrics that reports open with."""
    success_metric: ClassVar[str] = "operation_success"
    lateness_limit_ms: ClassVar[float] = LATENESS_LIMIT_MS

    def __init__(self, settings: AnySettings, run: ComponentRun) -> None:
        self.settings = settings
        self.run = run

    @property
    @abstractmethod
    def target(self) -> str:
        """The address of the service, for reports."""

    @abstractmethod
    async def set_up(self) -> None:
        """Connect, and see that the service can be used at all.

        Raises:
            BadInputError: something is missing that the options ask for.
            RunAbortedError: the service cannot be reached or refuses us.
        """

    @abstractmethod
    async def operate(self, operation: Operation) -> None:
        """Do one unit of work. When it is cancelled it leaves nothing behind at the service.

        Raises:
            OperationFailedError: it ends otherwise than completed.
        """

    async def settle(self) -> None:
        """Wait for what may still come after the last unit of work; what it records is in the last report."""

    @abstractmethod
    async def tear_down(self) -> None:
        """Give everything back; called also after a set-up that failed."""

    @classmethod
    def headline_of(cls, settings: ComponentSettings) -> tuple[str, ...]:  # noqa: ARG003  # some depend on it
        """Return the metrics that reports of a run with these settings open with."""
        return cls.headline

    def active(self, in_flight: int) -> int:
        """Return the concurrency that counts as `concurrent_calls`; the units of work in flight by default."""
        return in_flight

    def died(self) -> str:
        """Return why the run cannot go on (a stand-in of ours died); empty while it can."""
        return ""

    def doubt(self) -> str:
        """Return why what was measured says nothing of the service (a limit of our own stand-in), or nothing."""
        return ""

    def facts(self) -> dict[str, str]:
        """Return what reports tell beside the metrics, by name."""
        return {}


AnyComponent = Component[Any]
