from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from voxload.errors import BadInputError
from voxload.model.scenario import Scenario
from voxload.model.source import Source, load_yaml_model, read_source, validate

GOOD = """\
name: good
target: twin
load: {shape: constant, arrival_rate: 1, duration: 1s}
calls:
  - name: a
    script: [hang_up]
"""


NAME_HINT = "use letters, digits, _, . and -, and begin with a letter or _"
ALIAS_BOMB = "a: &k0 [" + "1," * 100 + "]\n" + "".join(f"b{n}: &k{n} [{f'*k{n - 1},' * 100}]\n" for n in range(1, 6))
JARGON = ("input should", "valid tuple", "value error", "field required")


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "scenario.yaml"
    path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
    return path


def problems(path: Path) -> list[tuple[int, str, str]]:
    with pytest.raises(BadInputError) as caught:
        load_yaml_model(path, Scenario)
    assert all(problem.file.startswith(str(path.parent)) for problem in caught.value.problems)
    return [(problem.line, problem.message, problem.suggestion) for problem in caught.value.problems]


def test_every_problem_is_listed_with_its_line(tmp_path):
    path = write(
        tmp_path,
        """\
        name: 5
        target: foo
        seed: x
        version: 2
        load:
          shape: const
          duration: 1
        calls:
          - name: a b
            weight: 0
            script:
              - sai
              - sya: hi
              - say
              - think: abc
              - think: 2s..1s
              - repeat:
                  times: 0
                  steps:
                    - say: {utterence: 1}
              - dtmf: xyz
              - hang_up: 1
              - say: a
                x: 1
              - say:
              - 3
        gates: [1, {expresion: a}]
        variables:
          a: {random_phne: {}}
          c: [1]
          d: {csv: {fil: 1}}
        timeouts: {connect: -1, aegnt_reply: 3}
        twin:
          latency: {stt: {lognorma: 1}, tts: {lognormal: {median: 3s, p95: 1s}}}
          quotas: {connections: -3, when_exceeded: fai}
        side_traffic:
          requests: []
        measurment: {}
        """,
    )
    steps = "say, wait_for_agent, think, listen, barge_in, backchannel, dtmf, repeat, wait_for_hang_up, hang_up"
    assert problems(path) == [
        (1, "name: expected a text, found 5", 'put it in quotes ("…")'),
        (2, "target: 'foo' does not start with http:// or https://, and is not twin", ""),
        (3, "seed: expected a whole number, found 'x'", ""),
        (4, "version: 2 is not allowed here", "known: 1"),
        (6, "load: unknown shape 'const'", "did you mean constant?"),
        (
            9,
            "calls[0].name: 'a b' is not allowed here",
            "use letters, digits, _, . and -, and begin with a letter or _",
        ),
        (10, "calls[0].weight: must be greater than 0, found 0", ""),
        (12, "calls[0].script[0]: unknown step 'sai'", "did you mean say?"),
        (13, "calls[0].script[1]: unknown step 'sya'", "did you mean say?"),
        (14, "calls[0].script[2]: the step say needs a value", "write - say: …"),
        (15, "calls[0].script[3].think: 'abc' is not a duration; write for example 700ms, 2s, 1m30s or 2h", ""),
        (16, "calls[0].script[4].think: '2s..1s': the first duration must not be longer than the second", ""),
        (18, "calls[0].script[5].repeat.times: must be at least 1, found 0", ""),
        (20, "unknown key 'utterence' in calls[0].script[5].repeat.steps[0].say", "did you mean utterance?"),
        (21, "calls[0].script[6].dtmf: 'xyz' is not allowed here", "keys are 0-9, A-D, * and #"),
        (22, "calls[0].script[7]: hang_up takes no value", "write - hang_up"),
        (23, "calls[0].script[8]: a step has one key, this one has 'say' and 'x'", "put a dash before each step"),
        (25, "calls[0].script[9].say needs the key utterance", ""),
        (26, "calls[0].script[10]: 3 is not a step", f"known: {steps}"),
        (27, "gates[0]: expected a text or keys and values, found 1", ""),
        (27, "unknown key 'expresion' in gates[1]", "did you mean expression?"),
        (29, "unknown key 'random_phne' in variables.a", "did you mean random_phone?"),
        (30, "variables.c: expected a text or a whole number or a number or keys and values, found a list", ""),
        (31, "variables.d.csv needs the key column", ""),
        (31, "unknown key 'fil' in variables.d.csv", "did you mean file?"),
        (32, "timeouts.connect: a duration must be between 0 and 10^9 seconds", ""),
        (32, "unknown key 'aegnt_reply' in timeouts", "did you mean agent_reply?"),
        (34, "unknown key 'lognorma' in twin.latency.stt", "did you mean lognormal?"),
        (34, "twin.latency.tts.lognormal: a lognormal latency needs 0 < median <= p95", ""),
        (35, "twin.quotas.connections: must be at least 0, found -3", ""),
        (35, "twin.quotas.when_exceeded: 'fai' is not allowed here", "did you mean fail?"),
        (37, "side_traffic.requests: must not be empty", ""),
        (38, "unknown key 'measurment'", "did you mean measurement?"),
    ]


def test_a_misspelt_required_key_is_one_problem(tmp_path):
    path = write(tmp_path, GOOD.replace("arrival_rate", "arival_rate"))
    assert problems(path) == [(3, "unknown key 'arival_rate' in load", "did you mean arrival_rate?")]


def test_missing_keys_are_reported_at_their_parent(tmp_path):
    path = write(tmp_path, "description: nothing else\nload:\n  shape: constant\n  duration: 1s\n")
    assert problems(path) == [
        (1, "the file needs the key name", ""),
        (1, "the file needs the key target", ""),
        (1, "the file needs the key calls", ""),
        (2, "load needs the key arrival_rate", ""),
    ]


def test_wrong_kinds_of_values_in_plain_words(tmp_path):
    path = write(tmp_path, "name: x\ntarget: twin\nload: 5\ncalls: {name: x}\nside_traffic: 3\ngates: abc\nheaders:\n")
    assert problems(path) == [
        (3, "load: expected keys and values, found 5", ""),
        (4, "calls: expected a list, found keys and values", "put a dash before each entry"),
        (5, "side_traffic: expected keys and values, found 3", ""),
        (6, "gates: expected a list, found 'abc'", "put a dash before each entry"),
        (7, "headers: expected keys and values, found nothing", ""),
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x: 1\na: [1\n\n", 2, "expected ',' or ']'"),
        ("x: 1\na: 'open\n\n", 2, "unexpected end of stream"),
        ("a: 1\n\tb: 2\n", 2, "found character '\\t'"),
        ("a: 1\nb: c: d\n", 2, "mapping values are not allowed here"),
        ("a: 1\na: 2\n", 2, "the key 'a' stands twice"),
        ("x:\n  b: 1\n  b: 2\n", 3, "the key 'b' stands twice"),
        ("a: *missing\n", 1, "undefined alias"),
        ("a: &a [*a]\n", 1, "an alias (*) stands inside"),
        ("a: !thing 1\n", 1, "the YAML tag !thing is not supported"),
        ("a: !!python/object:os.system x\n", 1, "is not supported"),
        ("? [a]\n: 1\n", 1, "a key must be a plain text"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: 1\nb: \x07\n", 2, "special characters are not allowed"),
        ("[" * 5000, 0, "nested too deeply"),
        ("a: " + "9" * 5000 + "\n", 1, "is not a number"),
        ("- a\n- b\n", 1, "expected keys and values at the top, found a list"),
        ("just words\n", 1, "expected keys and values at the top, found a plain value"),
        ("", 0, "the file is empty"),
        ("# only a comment\n", 0, "the file is empty"),
        (b"name: \xff\xfe\n", 1, "not a text file"),
        (b"a: 1\nb: \x80\n", 2, "not a text file"),
        (b"\0\0\0\0", 0, "null bytes"),
        (ALIAS_BOMB, 0, "aliases"),
    ],
)  # fmt: skip
def test_broken_files_end_in_one_clear_line(tmp_path, text, line, message):
    found = problems(write(tmp_path, text))
    assert len(found) == 1
    assert found[0][0] == line
    assert message in found[0][1]


def test_missing_file_folder_and_near_miss(tmp_path):
    write(tmp_path, GOOD)
    ((_, message, suggestion),) = problems(tmp_path / "scenrio.yaml")
    assert (message, suggestion) == ("no such file", f"did you mean {tmp_path / 'scenario.yaml'}?")
    ((_, message, _),) = problems(tmp_path)
    assert message == "is a folder, not a file"


def test_lines_and_texts_of_values(tmp_path):
    source = read_source(
        write(tmp_path, "a: +0049\nb:\n  - x\n  - y:\n      z: yes\nd: 2024-01-01\ne: 1.5\nf: true\ng:\n")
    )
    assert source.data == {"a": 49, "b": ["x", {"y": {"z": "yes"}}], "d": "2024-01-01", "e": 1.5, "f": True, "g": None}
    assert source.texts["a",] == "+0049"
    assert [source.line(loc) for loc in [("a",), ("b", 1, "y", "z"), ("b", 1, "nope"), ("f",), ()]] == [1, 5, 4, 8, 1]


def test_anchors_and_merge_keys(tmp_path):
    text = "base: &base {x: 1, y: 2}\nmade:\n  <<: *base\n  y: 3\nalso: *base\n"
    assert read_source(write(tmp_path, text)).data == {
        "base": {"x": 1, "y": 2},
        "made": {"x": 1, "y": 3},
        "also": {"x": 1, "y": 2},
    }


def test_byte_order_mark_and_crlf(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_yaml_model(path, Scenario).name == "good"


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.sampled_from(["", "twin", "say", "1s", "5/s"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["name", "target", "load", "shape", "calls", "script", "say", "utterance", "repeat", "steps",
                         "variables", "csv", "env", "gates", "twin", "latency", "stages", "think", "dialect"]),
        inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_any_data_is_either_a_scenario_or_a_list_of_problems(data):
    try:
        Scenario.model_validate(data)
    except ValidationError:
        with pytest.raises(BadInputError) as caught:
            validate(Source(data, "f.yaml"), Scenario)
        messages = [problem.message.lower() for problem in caught.value.problems]
        assert messages
        assert not [message for message in messages for jargon in JARGON if jargon in message]
    else:
        validate(Source(data, "f.yaml"), Scenario)


@pytest.mark.parametrize("weight", [".inf", ".nan", "1e999"])
def test_numbers_are_finite(tmp_path, weight):
    smoke = Path(__file__).parents[3] / "examples/smoke.yaml"
    path = write(tmp_path, smoke.read_text().replace("name: one_question", f"name: one_question\n    weight: {weight}"))
    with pytest.raises(BadInputError, match=r"calls\[0\]\.weight: expected a finite number"):
        load_yaml_model(path, Scenario)
