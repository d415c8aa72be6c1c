"""What voice metrics should reach: the reference values of the field that reports show beside the measured ones."""

from __future__ import annotations

from typing import Literal, NamedTuple

from voxload.model.metric import METRICS, Kind

Aggregate = Literal["p50", "p95", "max", "mean", "share", "total"]
"""How a distribution becomes one number: a percentile, the mean, the share of a ratio, or a level of the whole run."""


class Target(NamedTuple):
    """Reference values of one metric: in s, as a share of 0 to 1, or in its own unit; None where there is none.

    At `target` or better is good, beyond `critical` is bad. They inform the reader; only gates decide the verdict.
    """

    aggregate: Aggregate
    target: float | None = None
    critical: float | None = None


TARGETS: dict[str, tuple[Target, ...]] = {
    "call_setup": (Target("p95", 2.0, 5.0),),
    "greeting": (Target("p95", 0.4, 0.8),),
    "turn_latency": (Target("p50", 1.5), Target("p95", 3.5, 5.0)),
    "first_packet": (Target("p95", 0.6, 0.8),),
    "voice_response": (Target("p95", 0.150, 0.300),),
    "message_rtt": (Target("p95", 0.050, 0.100),),
    "dead_air": (Target("p95", 3.0, 10.0),),
    "barge_in_stop": (Target("p95", 0.5),),
    "yield_rate": (Target("share", 0.90, 0.75),),
    "false_barge_in": (Target("share", 0.0),),
    "agent_interruption": (Target("share", 0.05, 0.15),),
    "missed_response": (Target("share", 0.01, 0.05),),
    "underruns": (Target("mean", 0.0),),
    "late_frames": (Target("share", 0.0074, 0.0156),),
    "jitter": (Target("p95", 0.020, 0.050),),
    "mos": (Target("mean", 4.0, 3.5),),
    "intent_accuracy": (Target("share", 0.95),),
    "word_error_rate": (Target("share", 0.05, 0.10),),
    "call_success": (Target("share", 0.995, 0.95),),
    "cost_per_call": (Target("total", 0.10),),
}
"""By metric; the last one is the one that single labels are held against.

Sources: the load-testing strategy (call_setup, voice_response, message_rtt, mos, intent_accuracy, call_success,
cost_per_call), ITU-T G.107 (late_frames: the loss at which G.711 without concealment falls to MOS 4.0 and 3.5),
RFC 3550 (jitter), published figures of voice agents (the others). Where a source names no percentile, p95 is meant: the
stricter reading.
"""

_DEFAULT: dict[Kind, tuple[Target, ...]] = {
    "latency": (Target("p95"),),
    "ratio": (Target("share"),),
    "score": (Target("mean"),),
    "level": (Target("total"),),
}
_SHOWN = {"token_quota_used": (Target("max"),), "request_quota_used": (Target("max"),)}
"""What to show of metrics without reference values whose kind's default would hide what matters."""


class Group(NamedTuple):
    """Metrics that answer one question of a caller."""

    key: str
    title: str
    question: str
    metrics: tuple[str, ...]


GROUPS = (
    Group(
        "waiting",
        "Waiting",
        "How long does a caller wait for an answer?",
        (
            "call_setup",
            "greeting",
            "turn_latency",
            "first_packet",
            "silent_pad",
            "voice_response",
            "stt",
            "llm",
            "tts",
            "dead_air",
        ),
    ),
    Group(
        "interrupting",
        "Interrupting",
        "Do caller and agent let each other speak?",
        ("barge_in_stop", "yield_rate", "false_barge_in", "agent_interruption"),
    ),
    Group(
        "hearing",
        "Hearing and understanding",
        "Does it sound well, and is the caller understood?",
        (
            "mos",
            "late_frames",
            "jitter",
            "underruns",
            "underrun_ms_per_min",
            "clipped_audio",
            "dnsmos",
            "dnsmos_loss",
            "plcmos",
            "plcmos_loss",
            "message_rtt",
            "word_error_rate",
            "intent_accuracy",
            "missed_response",
        ),
    ),
    Group(
        "whole",
        "The whole call",
        "Did the call succeed, and at what price?",
        ("talk_ratio", "call_success", "call_cost", "cost_per_call"),
    ),
    Group(
        "model",
        "The language model",
        "How much does it write in time, and how near is its quota?",
        (
            "goodput",
            "slo_met",
            "output_speed",
            "output_token_throughput",
            "prompt_tokens",
            "completion_tokens",
            "tokens_per_minute",
            "requests_per_minute",
            "token_quota_used",
            "request_quota_used",
            "throttle_wait",
        ),
    ),
)
"""The metrics of a voice call as a caller would ask for them."""


def kind_of(metric: str) -> Kind:
    """Return the kind of a metric; one that the catalogue does not know is taken for a latency."""
    return METRICS[metric].kind if metric in METRICS else "latency"


def higher_is_better(metric: str) -> bool:
    """Return whether more is better."""
    return metric in METRICS and METRICS[metric].better == "higher"


def targets_of(metric: str) -> tuple[Target, ...]:
    """Return the reference values of a metric; for one without, what to show of it."""
    return TARGETS.get(metric) or _SHOWN.get(metric) or _DEFAULT[kind_of(metric)]


def tone_of(metric: str, value: float, target: Target) -> str:
    """Return `good`, `unsure` (off target) or `bad` (critical) for a measured value; empty where there is no target."""
    if target.target is None:
        return ""
    sign = -1 if higher_is_better(metric) else 1
    if sign * value <= sign * target.target:
        return "good"
    return "bad" if target.critical is not None and sign * value > sign * target.critical else "unsure"
