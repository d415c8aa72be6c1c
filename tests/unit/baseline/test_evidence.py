"""The sample of calls: even, the same each time, mergeable, small, and true to the histograms."""

import numpy as np
import pytest
from recorded_runs import made_calls, series_of

from voxload.measure.evidence import CallSampler, bucket_values, evidence_of
from voxload.measure.histogram import Histogram, merged
from voxload.measure.packing import join_evidence, pack_evidence, pack_series, unpack_evidence, unpack_series


def sampled(calls_max, *runs):
    sampler = CallSampler(calls_max)
    for run_id, calls in runs:
        for record in calls:
            sampler.add(run_id, record)
    return sampler.evidence()


def of_call(evidence, position):
    return {metric: sorted(each.bucket[each.call == position]) for metric, each in evidence.spans.items()}


def identity(evidence):
    return [(evidence.runs[run], int(index)) for run, index in zip(evidence.run, evidence.index, strict=True)]


def test_a_sample_keeps_whole_calls_and_is_the_same_whatever_the_order():
    calls = list(made_calls(300))
    forward, backward = sampled(50, ("a", calls)), sampled(50, ("a", reversed(calls)))
    assert forward.total == 300
    assert forward.calls == 50
    assert identity(forward) == identity(backward)
    whole = evidence_of((("a", record) for record in calls), 300)
    at = {index: position for position, index in enumerate(whole.index)}
    for position in range(50):
        assert of_call(forward, position) == of_call(whole, at[forward.index[position]])


def test_samples_join_to_the_sample_of_all_calls():
    runs = [("a", list(made_calls(200, seed=1))), ("b", list(made_calls(150, seed=2)))]
    together = sampled(80, *runs)
    joined = join_evidence([sampled(80, run) for run in runs], 80)
    assert joined.total == together.total == 350
    assert identity(joined) == identity(together)
    for position in range(80):
        assert of_call(joined, position) == of_call(together, position)
    for metric, shares in together.shares.items():
        assert joined.shares[metric].good == pytest.approx(shares.good)


def test_packing_gives_back_what_it_took():
    evidence = sampled(500, ("a", made_calls(400)))
    text = pack_evidence(evidence)
    again = unpack_evidence(text)
    assert identity(again) == identity(evidence)
    assert again.labels == evidence.labels
    for position in range(400):
        assert of_call(again, position) == of_call(evidence, position)
    assert len(text) < 400 * 40
    series = series_of(made_calls(100))
    assert unpack_series(pack_series(series)) == series


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-8], lambda text: "x" + text[1:], lambda text: "", lambda text: "é"]
)
def test_damaged_text_is_told(damage):
    text = pack_evidence(sampled(500, ("a", made_calls(40))))
    with pytest.raises(ValueError, match=r"."):
        unpack_evidence(damage(text))


def test_a_huge_frame_is_not_unpacked():
    import base64

    import zstandard

    bomb = base64.b64encode(zstandard.ZstdCompressor().compress(bytes(65 << 20))).decode()
    with pytest.raises(ValueError, match="too large"):
        unpack_series(bomb)


def test_the_values_are_those_of_the_histograms():
    calls = list(made_calls(100, failed=0.2))
    evidence = evidence_of((("a", record) for record in calls), 100)
    series = series_of(calls)
    for metric in {each.metric for each in series}:
        whole = merged(Histogram.from_data(each.histogram) for each in series if each.metric == metric)
        if metric in evidence.spans:
            values = bucket_values(evidence.spans[metric].bucket)
            assert len(values) == whole.count
            assert values.mean() == pytest.approx(whole.mean, rel=0.002)
        else:
            assert evidence.shares[metric].good.sum() / evidence.shares[metric].count.sum() * 1e9 == whole.mean


def test_labels_choose_calls_and_turns():
    evidence = evidence_of((("a", record) for record in made_calls(90)), 90)
    hold = evidence.where({"phase": "hold"})
    assert hold.shares["call_success"].count.sum() == 60
    assert len(hold.spans["turn_latency"].call) == 180
    book = evidence.where({"turn": "book", "call": "booking"})
    assert len(book.spans["turn_latency"].call) == 45
    assert not len(evidence.where({"turn": "nothing"}).spans["turn_latency"].call)
    assert np.all(evidence.index == np.arange(90))
