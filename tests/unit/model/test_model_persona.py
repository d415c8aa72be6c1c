"""Personas as scenarios write them: ready ones, changes, matrices, and what is refused."""

from __future__ import annotations

from typing import get_args

import jsonschema
import pytest
from pydantic import TypeAdapter, ValidationError

from voxload.model.base import Model
from voxload.model.explain import explain
from voxload.model.line import LineSettings
from voxload.model.persona import READY_PERSONAS, Noise, PersonaMix, ReadyName, resolve_personas

MIX = TypeAdapter(PersonaMix)


def resolve(mix):
    return resolve_personas(MIX.validate_python(mix))


def test_ready_personas():
    assert set(READY_PERSONAS) == set(get_args(ReadyName))
    assert all(persona.name == name for name, persona in READY_PERSONAS.items())
    calm = READY_PERSONAS["calm"]
    assert calm.sound == (1.0, 0.0, None, "none")
    assert (calm.patience_ns, calm.interrupts, calm.backchannel, calm.line) == (None, 0, 0, None)
    assert READY_PERSONAS["impatient"].patience_ns == 4_000_000_000
    assert READY_PERSONAS["impatient"].interrupts > 0
    assert READY_PERSONAS["elderly"].speaking_rate < 1
    assert READY_PERSONAS["elderly"].level_db < 0
    assert READY_PERSONAS["noisy_street"].codec == "g711"
    assert READY_PERSONAS["noisy_street"].noise is not None
    assert READY_PERSONAS["talkative"].speaking_rate > 1
    assert READY_PERSONAS["talkative"].backchannel > 0
    assert all(isinstance(hash(persona.sound), int) for persona in READY_PERSONAS.values())


def test_no_entry_means_calm():
    assert resolve([]) == (READY_PERSONAS["calm"],)


def test_ready_ones_changed_ones_and_own_ones():
    calm, impatient, mine, own = resolve(
        [
            "calm",
            {"use": "impatient", "weight": 2},
            {"name": "mine", "use": "noisy_street", "noise": {"kind": "babble", "snr_db": 5}, "patience": "1m"},
            {"name": "own", "speaking_rate": 1.5, "interrupt_after": "1s..2s"},
        ]
    )
    assert calm == READY_PERSONAS["calm"]
    assert impatient == READY_PERSONAS["impatient"].model_copy(update={"weight": 2})
    assert (mine.name, mine.noise, mine.patience_ns) == ("mine", Noise(kind="babble", snr_db=5), 60_000_000_000)
    assert (mine.codec, mine.level_db) == ("g711", READY_PERSONAS["noisy_street"].level_db)
    assert (own.name, own.speaking_rate, own.interrupt_after_ns) == ("own", 1.5, (10**9, 2 * 10**9))


def test_a_written_default_replaces_the_ready_value_too():
    (persona,) = resolve([{"use": "impatient", "speaking_rate": 1.0, "patience": None}])
    assert (persona.speaking_rate, persona.patience_ns) == (1.0, None)
    (quiet,) = resolve([{"use": "noisy_street", "noise": "none"}])
    assert quiet.noise is None


def test_noise_in_one_word():
    (persona,) = resolve([{"name": "x", "noise": "pink"}])
    assert persona.noise == Noise(kind="pink", snr_db=20)


def test_a_matrix_expands_to_the_product():
    personas = resolve(
        {"voice": ["slt", "rms"], "noise": ["none", {"kind": "white", "snr_db": 20}], "codec": ["none", "g711"]}
    )
    assert [persona.name for persona in personas] == [
        "slt", "slt-g711", "slt-white20", "slt-white20-g711",
        "rms", "rms-g711", "rms-white20", "rms-white20-g711",
    ]  # fmt: skip
    assert [persona.weight for persona in personas] == [1 / 8] * 8
    last = personas[-1]
    assert (last.voice, last.noise, last.codec) == ("rms", Noise(kind="white", snr_db=20), "g711")
    assert (personas[0].voice, personas[0].noise, personas[0].codec) == ("slt", None, "none")


def test_a_matrix_in_the_list_varies_a_persona_and_shares_its_weight():
    calm, *rest = resolve(
        [
            "calm",
            {
                "use": "impatient",
                "weight": 3,
                "matrix": {"noise": ["none", "white", {"kind": "babble", "snr_db": 2.5}]},
            },
        ]
    )
    assert [persona.name for persona in rest] == ["impatient", "impatient-white20", "impatient-babble2.5"]
    assert [persona.weight for persona in rest] == [1, 1, 1]
    assert {persona.patience_ns for persona in rest} == {4_000_000_000}


@pytest.mark.parametrize(
    "mix",
    [
        ["calm", "calm"],
        ["calm", {"name": "calm", "noise": "white"}],
        {"voice": ["slt", "slt"]},
        {"codec": ["none", "none"]},
    ],
)
def test_names_must_differ(mix):
    with pytest.raises(ValidationError, match="names must differ"):
        MIX.validate_python(mix)


class Example(Model):
    """A scenario with nothing but personas."""

    personas: PersonaMix = ()


@pytest.mark.parametrize(
    ("mix", "location", "message", "suggestion"),
    [
        (["clam"], ("personas", 0), "'clam' is not allowed", "did you mean calm?"),
        ([{"weight": 2}], ("personas", 0), "needs use", ""),
        ([{"use": "calm", "nois": "white"}], ("personas", 0, "nois"), "unknown key 'nois'", "did you mean noise?"),
        ([{"name": "a b"}], ("personas", 0, "name"), "'a b' is not allowed", "use letters"),
        ([{"name": "x", "speaking_rate": 3}], ("personas", 0, "speaking_rate"), "at most 2", ""),
        ([{"name": "x", "level_db": -31}], ("personas", 0, "level_db"), "at least -30", ""),
        ([{"name": "x", "interrupts": 1.1}], ("personas", 0, "interrupts"), "at most 1", ""),
        ([{"name": "x", "patience": "0s"}], ("personas", 0, "patience"), "greater than 0", ""),
        ([{"name": "x", "noise": "brown"}], ("personas", 0, "noise"), "'brown' is not allowed", ""),
        ([{"name": "x", "line": {"loss": {}}}], ("personas", 0, "line", "loss"), "exactly one of random and burst", ""),
        ([{"name": "x", "line": {"jitter": {"mean": 1}}}], ("personas", 0, "line", "jitter"), "both mean and std", ""),
        ({"voice": ["bob"]}, ("personas", "voice", 0), "'bob' is not allowed", ""),
        ({"use": "calm"}, ("personas", "use"), "unknown key 'use'", ""),
        ({}, ("personas",), "a matrix needs a list", ""),
        ("calm", ("personas",), "expected a list", "put a dash"),
    ],
)
def test_a_mistake_is_explained_once_and_where_it_is(mix, location, message, suggestion):
    data = {"personas": mix}
    with pytest.raises(ValidationError) as caught:
        Example.model_validate(data)
    (finding,) = explain(caught.value.errors(), Example, data)
    assert finding.location == location
    assert message in finding.message
    assert suggestion in finding.suggestion


@pytest.mark.parametrize(
    "mix",
    [
        ["calm", {"use": "elderly", "patience": "3s"}, {"name": "x", "noise": "none"}, {"name": "y", "noise": None}],
        {"voice": ["slt"], "noise": ["none", "white", {"kind": "pink", "snr_db": 3}], "codec": ["g711"]},
        [{"name": "x", "line": {"loss": 0.1, "jitter": "1ms..3ms", "stall": [{"at": 1, "for": "2s"}]}}],
        [{"name": "x", "line": {"loss": {"burst": {"p": 0.1, "r": 0.5}}, "jitter": {"mean": "5ms", "std": "1ms"}}}],
    ],
)
def test_the_schema_takes_what_the_model_takes(mix):
    Example.model_validate({"personas": mix})
    jsonschema.validate({"personas": mix}, Example.model_json_schema(by_alias=True, mode="validation"))


def test_line_settings():
    settings = LineSettings.model_validate(
        {"loss": 0.01, "jitter": ["5ms", "9ms"], "mute": [{"at": "1s", "for": "2s"}]}
    )
    assert settings.loss is not None
    assert (settings.loss.random, settings.loss.mean_loss) == (0.01, 0.01)
    assert settings.jitter is not None
    assert settings.jitter.span_ns == (5_000_000, 9_000_000)
    assert (settings.mute[0].at_ns, settings.mute[0].for_ns) == (10**9, 2 * 10**9)


@pytest.mark.parametrize(
    "bad",
    [
        {"loss": {"random": 0.1, "burst": {"p": 0.1, "r": 0.1}}},
        {"loss": 1.5},
        {"loss": {"burst": {"p": 0.1, "r": 0}}},
        {"jitter": {"span": "1ms", "mean": "1ms", "std": "1ms"}},
        {"jitter": {}},
        {"stall": [{"at": "1s", "for": "0s"}]},
        {"stall": [{"at": "1s"}]},
    ],
)
def test_bad_line_settings_are_refused(bad):
    with pytest.raises(ValidationError):
        LineSettings.model_validate(bad)
