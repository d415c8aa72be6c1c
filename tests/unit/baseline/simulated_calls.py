"""Runs with known truth, drawn fast: calls differ from each other, and the turns of a call are alike."""

import numpy as np

from voxload.measure.evidence import Evidence, Shares, Spans
from voxload.measure.histogram import HistogramData
from voxload.measure.series import Series
from voxload.verdict.subject import Subject

CALL_SIGMA, TURN_SIGMA = 0.30, 0.35
"""Spread (of ln) between calls and between the turns of one call: two turns of a call correlate by 0.42."""
MEDIANS_MS = {"call_setup": 120.0, "turn_latency": 900.0, "voice_response": 85.0, "message_rtt": 25.0}


def buckets_of(values):
    values = np.asarray(values, np.int64)
    shift = np.maximum(np.floor(np.log2(np.maximum(values, 1))).astype(np.int64) - 8, 0)
    return np.where(shift > 0, (shift << 8) + (values >> shift), values)


def histogram_data(values):
    buckets, counts = np.unique(buckets_of(values), return_counts=True)
    pairs = tuple(zip(buckets.tolist(), counts.tolist(), strict=True))
    return HistogramData(len(values), int(values.sum()), int(values.min()), int(values.max()), 0, pairs)


def simulated_run(
    rng,
    calls=500,
    turns=4,
    shift=1.0,
    success=0.995,
    run_factor=1.0,
    name="run",
    model="open",
    metrics=tuple(MEDIANS_MS),
):
    """A run whose latencies are all `shift` times the usual ones."""
    spans, series = {}, []
    call_effect = rng.normal(0, CALL_SIGMA, calls)
    for metric in metrics:
        per_call = 1 if metric == "call_setup" else turns
        call = np.repeat(np.arange(calls), per_call)
        spread = call_effect[call] + rng.normal(0, TURN_SIGMA, len(call))
        factor = shift * run_factor if metric != "call_setup" else run_factor
        values = (MEDIANS_MS[metric] * 1e6 * factor * np.exp(spread)).astype(np.int64)
        spans[metric] = Spans(call, buckets_of(values), np.zeros(len(call), np.int64))
        series.append(Series(metric, {}, histogram_data(values)))
    good = (rng.random(calls) < success).astype(float)
    series.append(Series("call_success", {}, histogram_data((good * 1e9).astype(np.int64))))
    evidence = Evidence(
        calls,
        (name,),
        np.zeros(calls, np.int64),
        np.arange(calls),
        ((),),
        np.zeros(calls, np.int64),
        ("",),
        spans,
        {"call_success": Shares(good, np.ones(calls))},
    )
    return Subject(name, model, series, {}, evidence)
