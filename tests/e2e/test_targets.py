"""One scenario on several targets at once: shared out by weight, told apart in every figure."""

import msgspec
import zstandard
from conftest import scenario_with

from voxload.measure.summary import CallRecord


def scenario(**changes):
    found = scenario_with(
        load={"shape": "constant", "arrival_rate": 20, "duration": "2s"},
        targets=[
            {"name": "stable", "url": "twin", "weight": 3},
            {
                "name": "canary",
                "url": "twin",
                "region": "westeurope",
                "twin": {"latency": {"turn": "600ms"}, "reply_seconds_max": 0.6},
            },
        ],
        gates=[
            'p95(turn_latency{target="stable"}) < 400ms',
            {"expression": "call_success >= 99%", "per": "target"},
        ],
        **changes,
    )
    return {name: value for name, value in found.items() if name != "target"}


def calls_of(folder):
    stream = zstandard.ZstdDecompressor().stream_reader((folder / "calls.jsonl.zst").open("rb"))
    return {
        call.index: call.target for call in map(msgspec.json.Decoder(CallRecord).decode, stream.read().splitlines())
    }


def test_two_agents_are_told_apart(voxload):
    done = voxload.run(scenario())
    summary = done.summary
    assert done.code == 0, (summary.verdict, done.err)
    latencies = {name: summary.histogram("turn_latency", {"target": name}) for name in ("stable", "canary")}
    assert latencies["stable"].count + latencies["canary"].count == 40
    assert 21 <= latencies["stable"].count <= 38  # 30 expected
    assert abs(latencies["stable"].quantile(0.5) / 1e6 - 300) <= 10
    assert abs(latencies["canary"].quantile(0.5) / 1e6 - 600) <= 10
    regions = {
        series.labels["target"]: series.labels.get("region") for series in summary.series if "target" in series.labels
    }
    assert regions == {"stable": None, "canary": "westeurope"}
    assert [gate.status for gate in summary.gates] == ["pass"] * 3
    assert 'target="canary"' in summary.gates[1].expression
    assert "Target" in done.out
    assert "Targets</h2>" in (done.folder / "report.html").read_text()

    two = voxload.run(scenario(), "--processes", "2", judged=False)  # the same calls go to the same targets
    assert calls_of(two.folder) == calls_of(done.folder)


def test_what_is_wrong_with_targets(voxload):
    bad = scenario()
    bad["gates"] = ['p95(turn_latency{target="canari"}) < 1s']
    done = voxload.run(bad)
    assert (done.code, "did you mean canary?" in done.err) == (2, True), done.err
    done = voxload.run({**scenario(), "target": "twin"})
    assert (done.code, "targets:" in done.err) == (2, True), done.err
    twice = scenario()
    twice["targets"][1]["name"] = "stable"
    done = voxload.run(twice)
    assert (done.code, "two targets are named 'stable'" in done.err) == (2, True), done.err
    assert "Traceback" not in done.err


def test_target_on_the_command_line_replaces_them(voxload):
    done = voxload("check", str(voxload.write(scenario())), "--target", "twin")
    assert done.code == 2  # the gate on a target that is no more
    assert "no target is called 'stable'" in done.err
