"""Rules of gates as users write them: the specification's file, severities, labels, conditions to stop."""

from pathlib import Path

import pytest

from voxload.errors import BadInputError
from voxload.measure.histogram import Histogram
from voxload.model.gates import GateRules, StopCondition
from voxload.runners.stopping import StopRules
from voxload.verdict.expression import parse_gate
from voxload.verdict.rules import gates_of, read_rules, stop_gates

EXAMPLE = Path(__file__).parents[3] / "examples" / "quality-gates.yml"


def wrong(place, message):
    raise AssertionError(f"{place}: {message}")


def test_the_specifications_file_as_it_stands():
    rules, _ = read_rules(str(EXAMPLE))
    found = {name: gate.expression for name, gate in gates_of(rules, wrong)}
    assert found == {
        "response_time_p95": "p95(voice_response) < 150ms",
        "success_rate": "call_success >= 99.5%",
        "concurrent_capacity": "concurrent_calls >= 1000",
        "resource_cpu_max": "max(target_cpu) < 70%",
        "resource_memory_max": "max(target_memory) < 70%",
    }
    assert rules.thresholds().model_dump() == {
        "response_time_degradation": 10,
        "throughput_degradation": 5,
        "error_rate_increase": 2,
    }


def test_severities_labels_and_names():
    rules = GateRules.model_validate(
        {
            "gates": [
                "error_rate < 1%",
                {"expression": "p95(turn_latency) < 1s", "severity": "warn", "per": "phase", "name": "fast"},
            ],
            "performance_gates": {"success_rate": {"limit": 99, "severity": "warn"}},
        }
    )
    found = gates_of(rules, wrong)
    assert [(name, gate.severity, gate.per) for name, gate in found] == [
        ("", "fail", ""),
        ("fast", "warn", "phase"),
        ("success_rate", "warn", ""),
    ]


def test_everything_wrong_with_a_file_at_once(tmp_path):
    file = tmp_path / "gates.yml"
    file.write_text(
        "performance_gates:\n  response_time_p99: 150\n  success_rate: 101\ngates:\n  - {per: phase}\nextra: 1\n"
    )
    with pytest.raises(BadInputError) as caught:
        read_rules(str(file))
    told = str(caught.value)
    assert f"{file}:2:" in told
    assert "response_time_p95" in told  # the suggestion
    for line in (3, 5, 6):
        assert f"{file}:{line}:" in told, told
    file.write_text("# nothing\n{}\n")
    with pytest.raises(BadInputError, match="no gates here"):
        read_rules(str(file))


def test_conditions_to_stop_that_make_no_sense():
    told = []
    rules = GateRules.model_validate(
        {
            "stop_when": [
                {"condition": "error_rate > 5%", "for": "5s"},
                {"condition": "peak_calls > 5"},
                {"condition": 'error_rate{call="a"} > 5%'},
                {"condition": "eror_rate > 5%"},
            ]
        }
    )
    assert len(stop_gates(rules, lambda place, message: told.append((place[1], message)))) == 1
    assert [number for number, _ in told] == [1, 2, 3]


class Recent:
    """Stands for a collector whose last seconds hold these values."""

    def __init__(self):
        self.values = {}

    def recent(self, metric, seconds):
        histogram = Histogram()
        for value in self.values.get((metric, seconds), ()):
            histogram.record(value)
        return histogram


def rules_for(condition, **changes):
    rule = StopCondition.model_validate({"condition": condition, "for": "3s", "over": "10s", **changes})
    return StopRules([(rule, parse_gate(condition))])


def test_a_condition_must_hold_for_its_time():
    recent, rules = Recent(), rules_for("error_rate > 10%")
    recent.values["call_success", 10] = [0] * 2 + [10**9] * 8
    assert rules(recent, 1.0) == ""
    recent.values["call_success", 10] = [10**9] * 10
    assert rules(recent, 2.0) == ""  # it has passed meanwhile: the time begins anew
    recent.values["call_success", 10] = [0] * 2 + [10**9] * 8
    assert rules(recent, 3.0) == ""
    assert rules(recent, 5.9) == ""
    assert rules(recent, 6.0) == "stop_when error_rate > 10%: 20.0% over the last 10 s, held for 3 s"


def test_few_observations_stop_nothing():
    recent, rules = Recent(), rules_for("error_rate > 10%", **{"for": 0})
    recent.values["call_success", 10] = [0] * 9
    assert rules(recent, 1.0) == ""
    recent.values["call_success", 10] = [0] * 10
    assert "100.0%" in rules(recent, 2.0)


def test_a_percentile_can_stop_a_run():
    recent, rules = Recent(), rules_for("p95(turn_latency) > 1s", **{"for": 0, "over": "4s"})
    recent.values["turn_latency", 4] = [900_000_000] * 100
    assert rules(recent, 1.0) == ""
    recent.values["turn_latency", 4] = [1_200_000_000] * 100
    assert "1200 ms over the last 4 s" in rules(recent, 2.0)
