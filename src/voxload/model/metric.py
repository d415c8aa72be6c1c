"""The catalogue of metrics: what each name means, its unit, and which direction is better."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["latency", "ratio", "level"]


class Metric(NamedTuple):
    """One metric: `latency` is a distribution in ns, `ratio` a share of 0 to 1, `level` one number for the run."""

    name: str
    kind: Kind
    meaning: str
    better: Literal["lower", "higher"] = "lower"
    unit: str = "ns"


_ALL = (
    Metric("call_setup", "latency", "intended arrival → media channel ready"),
    Metric("call_setup_uncorrected", "latency", "actual start of the set-up → media channel ready"),
    Metric("greeting", "latency", "media channel ready → first audible agent speech"),
    Metric("turn_latency", "latency", "caller's last active sample, as scheduled → agent's first active sample"),
    Metric("turn_latency_uncorrected", "latency", "the same, from when that sample was really sent"),
    Metric("first_packet", "latency", "caller's last active sample → first reply packet above -70 dBFS"),
    Metric("message_rtt", "latency", "WebSocket ping, as scheduled → its pong"),
    Metric("http_latency", "latency", "side traffic: request, as scheduled → whole answer"),
    Metric("call_duration", "latency", "media channel ready → call over"),
    Metric("frame_lateness", "latency", "the generator's own: frame due → frame sent"),
    Metric("call_success", "ratio", "completed calls ÷ attempted calls", "higher", "ratio"),
    Metric("http_success", "ratio", "side requests answered below 400 ÷ sent", "higher", "ratio"),
    Metric("concurrent_calls", "level", "calls up at once, the highest level held for 5 s", "higher", "calls"),
    Metric("peak_calls", "level", "calls up at once, the highest second", "higher", "calls"),
    Metric("calls", "level", "attempted calls", "higher", "calls"),
    Metric("arrival_rate", "level", "attempted calls a second of the load's duration", "higher", "/s"),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric by name."""
