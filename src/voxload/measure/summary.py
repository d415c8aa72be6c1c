"""The summary of a run: one JSON artifact from which every report and comparison can be rebuilt, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from voxload.errors import BadInputError, Problem
from voxload.measure.comparison import BaselineReport
from voxload.measure.histogram import Histogram, merged
from voxload.measure.probe import ProbeResult
from voxload.measure.series import ErrorSample, Quantiles, Series
from voxload.model.metric import is_latency

SUMMARY_FILE = "summary.json"
PARTIAL_FILE = "summary.partial.json"
"""What a run that goes on has measured so far; a run that was killed leaves no other."""
SUMMARY_VERSION = 1
LATENESS_LIMIT_MS = 5.0
"""Frame lateness at p99 beyond which a run cannot be trusted."""
LATENESS_METRICS = ("frame_lateness", "loop_lateness")
"""The generator's own lateness: of frames in a voice run, of the event loop in a component test."""

MISSED = "no reply within"
"""So begins the problem of a turn that got none."""


class TimelinePoint(msgspec.Struct, frozen=True):
    """What happened in one stretch of the run that starts `start_s` after its first instant."""

    start_s: float
    duration_s: float
    active: int
    """Calls up at the end of the stretch (media channel ready, not yet over)."""
    planned: float
    """Calls that the plan expects to be up then (the intended starts, each as long as the mean call so far)."""
    started: int
    ended: int
    outcomes: dict[str, int]
    frames_sent: int
    frames_received: int
    bytes_sent: int
    bytes_received: int
    latencies: dict[str, Quantiles]
    """Latency metrics by name, over all labels, `frame_lateness` included."""
    cpu_percent: float
    """Busiest generator process, percent of one core."""
    means: dict[str, float] = {}
    """Ratios (0 to 1) and scores by name: the mean over all labels."""


class ShardHealth(msgspec.Struct, frozen=True):
    """How one generator process fared."""

    shard: int
    calls: int
    cpu_percent_mean: float
    cpu_percent_max: float
    memory_mib: float
    lateness_p50_ms: float | None
    lateness_p99_ms: float | None
    lateness_max_ms: float | None
    lost: str = ""
    """Why its numbers are incomplete; empty when it reported to the end."""


class TurnRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of one call; times in s since the call's intended start."""

    turn: str
    speech_end_s: float
    latency_ms: float | None = None
    first_packet_ms: float | None = None
    speech_start_s: float | None = None
    """The caller's first active sample."""
    reply_start_s: float | None = None
    reply_end_s: float | None = None
    """The agent's first and last active sample, as heard."""
    stages_ms: dict[str, float] = {}
    """`stt`, `llm`, `tts` where the dialect reveals them."""
    stages_at_ms: dict[str, float] = {}
    """Stages that the agent told by name, from the caller's last active sample."""
    said: str = ""
    heard: str = ""
    """What the caller said, and what the agent says it understood."""
    reply: str = ""
    intent: str = ""
    intent_heard: str = ""
    intent_correct: bool | None = None
    word_error_rate: float | None = None
    problems: list[str] = []
    """What was bad about it, in plain words: `no reply within 15 s`, `speech broke off for 240 ms`."""


class CallMoment(msgspec.Struct, frozen=True):
    """Something that happened in a call: `kind` is one word (`barge_in`, `interrupted`, `underrun`, `dtmf`, …)."""

    at_s: float
    """Since the call's intended start."""
    kind: str
    text: str = ""
    duration_s: float = 0.0


class CallRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call, as a line of `calls.jsonl.zst`."""

    index: int
    call_id: str
    call: str
    phase: str
    due_s: float
    outcome: str
    duration_s: float = 0.0
    setup_ms: float | None = None
    turns: list[TurnRecord] = []
    error: str = ""
    shard: int = 0
    persona: str = ""
    region: str = ""
    """Where its callers, or its target, are; empty where nothing says so."""
    target: str = ""
    """Which of several targets it called."""
    target_id: str = ""
    """The service's own name of the call (call connection id)."""
    mos: float | None = None
    """E-model, see `mos_scale`."""
    mos_scale: str = ""
    """`narrowband` or `wideband`."""
    late_share: float | None = None
    """Agent audio that came too late for the playout buffer, 0 to 1."""
    jitter_ms: float | None = None
    underruns: int = 0
    underrun_ms: float = 0.0
    agent_speech_s: float = 0.0
    caller_speech_s: float = 0.0
    cost: float | None = None
    moments: list[CallMoment] = []
    recording: str = ""
    """WAV file in the run's folder, where the call was recorded."""
    trace_id: str = ""
    """W3C trace id of its requests, 32 hexadecimal digits."""
    ended_after_s: float = 0.0
    """From its intended start to its end, where it never was up (`setup_ms` is not given)."""
    samples: dict[str, list[float]] = {}
    """Values that stand nowhere else in the record (`message_rtt`, `barge_in_stop`, `http_latency`, `yield_rate`, …):
    ms for latencies, 0 or 1 for ratios; thinned evenly in a long call."""


class PlannedPhase(msgspec.Struct, frozen=True):
    """A phase as planned."""

    name: str
    start_s: float
    duration_s: float
    rate_start_per_s: float
    rate_end_per_s: float
    calls: int


class PlanFacts(msgspec.Struct, frozen=True):
    """What was to happen."""

    model: Literal["open", "closed"]
    phases: list[PlannedPhase]
    calls: int
    """Planned number of calls (open load); 0 for a closed load."""
    load_duration_s: float
    call_types: dict[str, float]
    """Share of each kind of call, 0 to 1."""
    frame_ms: int
    processes: int
    personas: dict[str, float] = {}
    """Share of each caller persona (voice, line, manner), 0 to 1."""
    fingerprint: dict[str, str] = {}
    """By part of the scenario, a hash of what the calls depend on: runs with the same one can be compared."""
    component: str = ""
    """Which component test this is; empty for a voice run."""
    headline: tuple[str, ...] = ("turn_latency",)
    """Latency metrics that reports open with."""
    lateness_limit_ms: float = LATENESS_LIMIT_MS
    """Lateness of the generator at p99 beyond which the run cannot be trusted."""


class RunFacts(msgspec.Struct, frozen=True):
    """Which run this was."""

    run_id: str
    scenario: str
    description: str
    started_at: str
    """UTC, ISO 8601."""
    duration_s: float
    target: str
    dialect: str
    seed: int
    voxload_version: str
    cut_short: str = ""
    """Why the run ended before its plan (Ctrl-C, unreachable target); empty for a full run."""
    stopped_early: str = ""
    """Which condition of `stop_when` ended the run; empty for a run that went on to its end."""
    doubts: list[str] = []
    """Why the run cannot be trusted, beyond what the processes' own numbers say: a worker lost, one that came late."""
    environment: dict[str, str] = {}
    """Machine, operating system, Python, versions of what matters, git commit."""
    insecure: bool = False
    """Certificates of the target were not verified."""


class GateResult(msgspec.Struct, frozen=True):
    """What became of one gate."""

    expression: str
    status: Literal["pass", "fail", "unknown"]
    actual: float | None
    """In the unit of `unit`; None when there was no data."""
    threshold: float
    unit: str
    sample_size: int
    reason: str = ""
    name: str = ""
    severity: Literal["fail", "warn"] = "fail"
    """warn: the gate decides nothing."""
    margin: float | None = None
    """How far on the good side of the threshold, in the same unit; negative beyond it."""


class Verdict(msgspec.Struct, frozen=True):
    """The decision: `exit_code` is that of the command."""

    status: Literal["passed", "failed", "unknown", "aborted"]
    exit_code: int
    reasons: list[str]


class Totals(msgspec.Struct, frozen=True):
    """Counts over the whole run."""

    attempted: int
    """Calls that were started and say something of the target (all but shed, cancelled, internal errors)."""
    outcomes: dict[str, int]
    """Every call that ended, by outcome."""
    frames_sent: int
    frames_received: int
    frames_dropped: int
    """Frames that could not be sent because the target did not read."""
    bytes_sent: int
    bytes_received: int
    unknown_messages: dict[str, int]
    peer_errors: dict[str, int]
    """Errors that the agent reported without ending the call, by code."""
    http_requests: dict[str, dict[str, int]]
    """Side traffic: by request name, by status (`200`, `503`, `error`)."""
    frames_lost: int = 0
    """Frames that the callers' impaired lines lost on purpose."""


class HealthLook(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one health endpoint said at one time."""

    at_s: float
    """Since the last call of the load was over; negative: before the run."""
    get: str
    counts: bool = False
    """Whether it is asked for sessions."""
    sessions: float | None = None
    of: float | None = None
    """How many sessions there can be, where it says so."""
    broken: list[str] = []
    """What was expected of it and does not hold, or why it could not be read."""


class Recovery(msgspec.Struct, frozen=True):
    """What was seen after the load; times in s since its last call was over."""

    after_s: float
    """How long the target was given."""
    lasted_s: float
    probes_wanted: int
    probes: list[CallRecord]
    """Single calls, their `due_s` counted from the end of the load; no part of the run's own numbers."""
    recovery_time_s: float | None
    """When the first probe that completed was placed."""
    before: list[HealthLook]
    looks: list[HealthLook]
    problem: str = ""
    """Why it was not carried out to its end (Ctrl-C)."""


class TelemetryFacts(msgspec.Struct, frozen=True):
    """How the figures went out while the run went on; nothing of it bears on the verdict."""

    kind: str
    """`otlp`, `azure_monitor` or `prometheus`."""
    endpoint: str
    exports: int
    """Tried, failed ones included; of Prometheus, scrapes."""
    failed: int
    skipped: int
    """Left out because the one before still went on; their figures went with the next."""
    complete: bool
    """Whether the receiver took the figures as they were at the end of the run."""
    error: str = ""
    """What the last failed export said."""
    signal: str = "metrics"
    """`metrics`, or `traces`: the calls as spans."""
    spans: int = 0
    """Spans that the receiver took."""
    spans_dropped: int = 0
    """Spans that it did not take, or that found no place in the queue."""


class Summary(msgspec.Struct, frozen=True):
    """All that is known of a finished run."""

    version: int
    run: RunFacts
    plan: PlanFacts
    totals: Totals
    levels: dict[str, float]
    """Metrics of kind level that have data, by name."""
    series: list[Series]
    timeline: list[TimelinePoint]
    shards: list[ShardHealth]
    errors: list[ErrorSample]
    worst_calls: list[CallRecord]
    gates: list[GateResult]
    verdict: Verdict
    cost: dict[str, float] = {}
    """Money spent on the whole run by item (`tts`, `llm_input`, …), in US dollars."""
    baseline: BaselineReport | None = None
    """The check against a baseline, where there was one."""
    facts: dict[str, str] = {}
    """What a component test has to tell beside its metrics, by name."""
    recovery: Recovery | None = None
    """What was seen after the load, where the scenario asks for it."""
    probes: list[ProbeResult] = []
    """What the probes of services measured meanwhile; no part of the run's own figures."""
    telemetry: list[TelemetryFacts] = []
    """How live figures went out, where they did."""

    def probe(self, name: str) -> ProbeResult | None:
        """Return a probe by its name."""
        return next((probe for probe in self.probes if probe.name == name), None)

    def histogram(self, metric: str, labels: dict[str, str] | None = None) -> Histogram:
        """Return all values of a metric, merged over the series whose labels include `labels`."""
        wanted = (labels or {}).items()
        return merged(
            Histogram.from_data(series.histogram)
            for series in self.series
            if series.metric == metric and wanted <= series.labels.items()
        )

    def lateness(self) -> Histogram:
        """Return the generator's own lateness over all processes."""
        return merged(self.histogram(name) for name in LATENESS_METRICS)

    def latency_metrics(self) -> list[str]:
        """Return the names of the latency metrics that have data, in order of first appearance."""
        return [name for name in self.metrics() if is_latency(name)]

    def metrics(self) -> list[str]:
        """Return the names of all metrics that have series, in order of first appearance."""
        return list(dict.fromkeys(series.metric for series in self.series))


def encode_summary(summary: Summary) -> bytes:
    """Return the summary as JSON, two spaces deep so that people and `git diff` can read it."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"


def read_summary(path: Path) -> Summary:
    """Read `summary.json`, or the run's folder that holds it, or the partial one of a run that was killed.

    Raises:
        BadInputError: the file is missing, is not a summary, or is of another version.
    """
    file = path / SUMMARY_FILE if path.is_dir() else path
    if path.is_dir() and not file.exists() and (path / PARTIAL_FILE).exists():
        file = path / PARTIAL_FILE
    try:
        raw: Any = msgspec.json.decode(file.read_bytes())
        if isinstance(raw, dict) and raw.get("version") != SUMMARY_VERSION:
            suggestion = f"this voxload reads version {SUMMARY_VERSION}"
            raise BadInputError([Problem(f"summary of version {raw.get('version')!r}", str(file), 0, suggestion)])
        return msgspec.convert(raw, Summary)
    except FileNotFoundError:
        if path.is_dir():
            message = f"no {SUMMARY_FILE}: not a run, or one that was killed before it had measured anything"
            raise BadInputError([Problem(message, str(path), 0, "give a folder under results/")]) from None
        raise BadInputError([Problem("no such run", str(file), 0, "give a folder under results/")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError([Problem(f"cannot be read: {error}", str(file))]) from None
    except msgspec.MsgspecError as error:
        raise BadInputError([Problem(f"not a run summary: {error}", str(file))]) from None
