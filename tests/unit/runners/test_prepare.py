from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from voxload.errors import BadInputError
from voxload.load.workload import Workload
from voxload.model.load import (
    ConcurrencyLoad,
    ConstantLoad,
    PoissonLoad,
    RampLoad,
    SpikeLoad,
    StagesLoad,
)
from voxload.model.plan import decode_plan, encode_plan
from voxload.model.scenario import Scenario
from voxload.runners.overrides import override_load
from voxload.runners.prepare import prepare, with_target

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def scenario(**changes: Any) -> dict[str, Any]:
    found = {
        "name": "Test run!",
        "target": "http://127.0.0.1:9",
        "load": {"shape": "constant", "arrival_rate": 2, "duration": "10s"},
        "calls": [{"name": "a", "script": ["wait_for_agent", {"say": "book_appointment"}, "wait_for_agent"]}],
    }
    return {**found, **changes}


def write(folder: Path, data: dict[str, Any]) -> Path:
    path = folder / "s.yaml"
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(data, file)
    return path


def prepared(folder: Path, data: dict[str, Any], environ: dict[str, str] | None = None, **options: Any) -> Any:
    return prepare(write(folder, data), environ=environ or {}, **options)


def messages(folder: Path, data: dict[str, Any], **options: Any) -> list[str]:
    with pytest.raises(BadInputError) as caught:
        prepared(folder, data, **options)
    assert all(problem.line for problem in caught.value.problems if problem.file.endswith("s.yaml"))
    return [
        f"{problem.message} ({problem.suggestion})" if problem.suggestion else problem.message
        for problem in caught.value.problems
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_can_be_run(path):
    found = prepare(path, environ={})
    assert not found.warnings
    again = Workload(decode_plan(encode_plan(found.plan)))
    assert again.scenario == found.scenario
    assert again.call(3, "p").values == Workload(found.plan).call(3, "p").values


def test_the_plan_is_self_contained(tmp_path):
    wav = ROOT / "src/voxload/audio/data/opening_hours-slt-1.wav"
    shutil.copy(wav, tmp_path / "ask.wav")
    (tmp_path / "people.csv").write_text("id, name\n1,Ada\n\n2,Ben\n")
    data = scenario(
        calls=[{"name": "a", "script": [{"say": "ask.wav"}]}],
        variables={
            "who": {"csv": {"file": "people.csv", "column": "name"}},
            "key": {"env": "THE_KEY"},
            "host": {"env": {"name": "NO_SUCH", "default": "agent.example"}},
            "number": 12,
        },
        target="https://${host}/base/",
        headers={"X-Key": "${key}"},
    )
    plan = prepared(tmp_path, data, {"THE_KEY": "s3cr3t"}).plan
    (tmp_path / "ask.wav").unlink()
    (tmp_path / "people.csv").unlink()
    workload = Workload(decode_plan(encode_plan(plan)))
    assert plan.target == "https://agent.example/base"
    assert plan.tables == {"who": ("Ada", "Ben")}
    assert plan.constants == {"key": "s3cr3t", "host": "agent.example", "number": "12"}
    assert plan.secrets == ("key",)
    assert workload.headers() == {"X-Key": "s3cr3t"}
    (spoken,) = workload.utterances("ask.wav")
    assert spoken.duration_ns > 10**9
    assert "s3cr3t" not in repr(plan.scenario)
    assert re.fullmatch(r"\d{8}-\d{6}-test-run-[0-9a-f]{4}", plan.run_id)


def test_a_number_keeps_its_sign_and_zeros(tmp_path):
    path = tmp_path / "s.yaml"
    text = (ROOT / "examples/smoke.yaml").read_text()
    path.write_text(text + "variables: {number: +0049, hex: 0x10, text: abc}\n")
    assert prepare(path, environ={}).plan.constants == {"number": "+0049", "hex": "0x10", "text": "abc"}


def test_all_semantic_problems_are_listed_at_once(tmp_path):
    (tmp_path / "people.csv").write_text("id,name\n1,Ada\n")
    (tmp_path / "ragged.csv").write_text("id,name\n1,Ada\n2\n")
    (tmp_path / "empty.csv").write_text("id\n")
    (tmp_path / "noise.wav").write_bytes(b"RIFF, or not")
    script = [
        {"say": "book_apointment"},
        {"say": "gone.wav"},
        {"say": "noise.wav"},
        {"repeat": {"until": "5s", "steps": ["wait_for_agent"]}},
        "hang_up",
        {"think": "1s"},
    ]
    data = scenario(
        calls=[{"name": "a", "script": script}],
        dialect={"name": "rtmed", "mesage_rate": 10, "agent_type": "${nobody}"},
        variables={
            "a": {"csv": {"file": "people.csv", "column": "nam"}},
            "b": {"csv": {"file": "people.cvs", "column": "name"}},
            "c": {"csv": {"file": "ragged.csv", "column": "name"}},
            "d": {"csv": {"file": "empty.csv", "column": "id"}},
            "e": {"env": "SURELY_NOT_SET"},
            "f": {"random_phone": {}},
            "call_id": "x",
            "g-h": "x",
        },
        headers={"X": "${f}", "Y": "$", "Bad name": "x", "Z": "a\nb", "E": "${e}"},
        side_traffic={"requests": [{"get": "/${session_id}/${sesion}"}, {"get": "health"}]},
        gates=["p95(turn_latncy) < 1s", 'p95(turn_latency{phase="hold"}) < 1s', 'p95(greeting{call="b"}) < 1s', "x"],
    )
    found = "\n".join(messages(tmp_path, data))
    for expected in (
        "no utterance or intent is called 'book_apointment' (did you mean book_appointment?)",
        f"{tmp_path / 'gone.wav'}: no such file",
        "noise.wav: ",
        "repeat until: a round may take no time",
        "this step is never reached",
        "dialect rtmed has no option 'mesage_rate' (did you mean message_rate?)",
        "dialect.agent_type: no variable is called 'nobody'",
        "people.csv has no column 'nam' (did you mean name?)",
        f"{tmp_path / 'people.cvs'}: no such file",
        "the row has no column 'name'",
        "the file has a header but no row",
        "the environment variable SURELY_NOT_SET is not set",
        "the variable call_id is set by voxload",
        "'g-h' cannot be the name of a variable",
        "headers.X: ${f} differs from call to call",
        "headers.Y: '$': write",
        "headers.Bad name: not a valid HTTP header",
        "headers.Z: not a valid HTTP header",
        "side_traffic.requests[0].get: no variable is called 'sesion' (did you mean session_id?)",
        "side_traffic.requests[1].get: a path on the target begins with /",
        "turn_latncy' (did you mean turn_latency?)",
        "no phase is called 'hold' (known: constant)",
        "no call is called 'b'",
        "'x' is not a gate",
    ):
        assert expected in found
    assert len(found.splitlines()) == 24
    assert "headers.E" not in found  # the unset variable is one problem, not two


def test_what_a_scenario_cannot_be_without_hides_no_other_problem(tmp_path):
    script = [{"say": "book_apointment"}, 17, {"wait_for_agent": {"maybe": 3}}]
    data = scenario(
        target="ftp://x",
        load={"shape": "ramp", "concurrency": "fast"},
        calls=[{"name": "a", "script": script}],
        gates=["x", 'p95(turn_latency{phase="hold"}) < 1s', 'p95(turn_latency{call="b"}) < 1s'],
    )
    del data["name"]
    found = "\n".join(messages(tmp_path, data, users=5))
    for expected in (
        "the file needs the key name",
        "target: 'ftp://x' does not start with",
        "load",
        "no utterance or intent is called 'book_apointment'",
        "calls[0].script[1]: 17 is not a step",
        "unknown key 'maybe' in calls[0].script[2].wait_for_agent",
        "'x' is not a gate",
        "no call is called 'b'",
    ):
        assert expected in found
    assert "called 'hold'" not in found  # which phases there are is not known


def test_nothing_is_said_of_what_stands_for_missing_calls(tmp_path):
    data = scenario(gates=["x", 'p95(turn_latency{call="b"}) < 1s'])
    del data["calls"], data["load"]
    found = messages(tmp_path, data, duration=5.0)
    assert [each.split(";")[0] for each in found] == ["the file needs the key load", "the file needs the key calls",
                                                      "'x' is not a gate"]  # fmt: skip


def test_problems_name_their_lines(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text((ROOT / "examples/smoke.yaml").read_text().replace("opening_hours", "opening_hour"))
    wanted = next(n for n, line in enumerate(path.read_text().splitlines(), 1) if "opening_hour" in line)
    with pytest.raises(BadInputError) as caught:
        prepare(path, environ={})
    assert [problem.line for problem in caught.value.problems] == [wanted]


@pytest.mark.parametrize(
    "target", ["http://", "https://:80", "http://h:99999", "http://a b", "http://h/x?y=1", "http://h#x"]
)
def test_bad_targets(tmp_path, target):
    (message,) = messages(tmp_path, scenario(target=target))
    assert message.startswith("target: ")


def test_a_target_that_names_variables(tmp_path):
    unset = messages(tmp_path, scenario(target="http://${host}", variables={"host": {"env": "SURELY_NOT_SET"}}))
    assert [message.split(" (")[0] for message in unset] == [
        "variables.host: the environment variable SURELY_NOT_SET is not set"
    ]
    (unknown,) = messages(tmp_path, scenario(target="http://${hots}", variables={"host": "x"}))
    assert unknown == "target: no variable is called 'hots' (did you mean host?)"
    (differs,) = messages(tmp_path, scenario(target="http://${host}", variables={"host": {"choice": ["x"]}}))
    assert "differs from call to call" in differs


def test_unknown_dialect_and_bad_option_value(tmp_path):
    assert "unknown dialect 'rtmd' (did you mean rtmed?)" in messages(tmp_path, scenario(dialect="rtmd"))
    (message,) = messages(tmp_path, scenario(dialect={"name": "rtmed", "message_rate": 7}))
    assert "option message_rate" in message


def test_a_load_without_calls(tmp_path):
    (message,) = messages(tmp_path, scenario(load={"shape": "ramp", "ramp_to": 0, "duration": "5s"}))
    assert message == "load: places no call, every rate is 0"


def test_a_silent_twin_is_a_warning(tmp_path):
    found = prepared(tmp_path, scenario(target="twin", twin={"greeting": False}))
    assert [warning.line > 0 and "nobody has spoken yet" in warning.message for warning in found.warnings] == [True]
    assert prepared(tmp_path, scenario(target="twin")).warnings == ()


def test_target_and_seed_options(tmp_path):
    found = prepared(tmp_path, scenario(), target="https://other.example/", seed=9)
    assert (found.plan.target, found.scenario.seed) == ("https://other.example", 9)
    assert Workload(found.plan).scenario.seed == 9
    assert prepared(tmp_path, scenario(), target="twin").plan.target == ""
    assert with_target(prepared(tmp_path, scenario(), target="twin"), "http://127.0.0.1:5/").plan.target.endswith(":5")
    with pytest.raises(BadInputError, match="--target"):
        prepared(tmp_path, scenario(), target="ftp://x")
    without = {key: value for key, value in scenario().items() if key != "target"}
    assert prepared(tmp_path, without, target="http://given").plan.target == "http://given"


LOADS = {
    "constant": {"shape": "constant", "arrival_rate": 5, "duration": "40s", "process": "poisson"},
    "poisson": {"shape": "poisson", "arrival_rate": "300/min", "duration": "40s"},
    "ramp": {"shape": "ramp", "ramp_to": 5, "duration": "30s", "hold": "10s"},
    "spike": {"shape": "spike", "arrival_rate": 1, "spike_rate": 9, "spike_at": "10s", "spike_duration": "5s",
              "duration": "40s"},
    "stages": {"shape": "stages", "stages": [
        {"name": "one", "duration": "30s", "arrival_rate": 1, "ramp_to": 3}, {"duration": "10s", "arrival_rate": 0}]},
    "concurrency": {"shape": "concurrency", "concurrency": 4, "duration": "40s", "ramp_up": "20s", "pause": "1s"},
}  # fmt: skip


def load_after(data: dict[str, Any], **options: Any) -> Any:
    written = Scenario.model_validate(scenario(load=data)).load
    given = {"users": None, "duration": None, "rate": None, **options}
    return Scenario.model_validate(scenario(load=override_load(written, **given))).load


@pytest.mark.parametrize("shape", LOADS)
@given(seconds=st.one_of(st.integers(1, 10**5), st.floats(0.01, 1e5)))
def test_duration_stretches_every_stage_in_proportion(shape, seconds):
    before, after = (
        Scenario.model_validate(scenario(load=LOADS[shape])).load,
        load_after(LOADS[shape], duration=seconds),
    )
    assert type(after) is type(before)
    assert sum(phase.duration_ns for phase in after.phases()) == pytest.approx(seconds * 1e9, abs=100)
    if shape != "concurrency":
        for old, new in zip(before.phases(), after.phases(), strict=True):
            assert new._replace(duration_ns=0) == old._replace(duration_ns=0)
            assert new.duration_ns == pytest.approx(old.duration_ns * seconds / 40, abs=100)


@pytest.mark.parametrize("shape", LOADS)
def test_users_make_a_closed_load(shape):
    found = load_after(LOADS[shape], users=50)
    assert isinstance(found, ConcurrencyLoad)
    assert (found.concurrency, found.duration_ns, found.ramp_up_ns) == (50, 40 * 10**9, 10 * 10**9)
    short = load_after(LOADS[shape], users=50, duration="8s")
    assert (short.duration_ns, short.ramp_up_ns) == (8 * 10**9, 2 * 10**9)
    assert found.pause_ns == (10**9 if shape == "concurrency" else 0)


@pytest.mark.parametrize("shape", LOADS)
def test_rate_makes_a_constant_load(shape):
    found = load_after(LOADS[shape], rate="120/min", duration="1m")
    assert isinstance(found, ConstantLoad)
    assert (found.arrival_rate_per_s, found.duration_ns) == (2.0, 60 * 10**9)
    assert found.process == ("poisson" if shape in {"constant", "poisson"} else "even")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"users": 5, "rate": 2}, "exclude each other"),
        ({"duration": 0}, "--duration: must be greater than 0"),
        ({"duration": "soon"}, "--duration: 'soon' is not a duration"),
        ({"rate": 0}, "--rate: must be greater than 0"),
        ({"rate": "fast"}, "--rate: 'fast' is not a rate"),
        ({"users": 0}, "the load after --users"),
        ({"users": 10**7}, "the load after --users"),
    ],
)
def test_bad_options(tmp_path, options, message):
    with pytest.raises(BadInputError, match=re.escape(message)):
        prepared(tmp_path, scenario(), **options)


def test_a_gate_on_a_phase_that_an_option_removes_is_a_warning(tmp_path):
    data = scenario(load=LOADS["stages"], gates=['p95(turn_latency{phase="one"}) < 1s'])
    assert prepared(tmp_path, data).warnings == ()
    (warning,) = prepared(tmp_path, data, rate=3).warnings
    assert "no data" in warning.message


def test_every_shape_is_covered():
    types = {type(Scenario.model_validate(scenario(load=data)).load) for data in LOADS.values()}
    assert types == {ConstantLoad, PoissonLoad, RampLoad, SpikeLoad, StagesLoad, ConcurrencyLoad}


def test_what_would_fail_after_the_calls_is_found_before_them(tmp_path):
    found = messages(
        tmp_path,
        scenario(
            record="lots",
            cost={"llm": "gpt-9"},
            quality={"reference": "none.wav"},
            personas=["calm"],
            calls=[{"name": "a", "script": ["wait_for_agent", {"backchannel": "cough"}]}],
            gates=['p95(turn_latency{persona="calmm"}) < 1s'],
        ),
    )
    text = "\n".join(found)
    for part in ("'lots'", "gpt-9.input", "none.wav", "called 'cough'", "did you mean cough-1", "no persona is called"):
        assert part in text, text
