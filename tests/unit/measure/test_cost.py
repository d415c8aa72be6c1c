"""Prices to the last digit, and every estimate named."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from voxload.errors import BadInputError
from voxload.measure.cost import CallUsage, CostModel, price_table
from voxload.model.cost import FIXED_PRICES, CostSettings

ALL = CostSettings(
    telephony="pstn_inbound", voip_legs=1, stt="stream", tts="neural", llm="gpt-4o-mini", realtime="gpt-realtime"
)


def cost(usage, **settings):
    return CostModel(CostSettings(**settings)).call_cost(usage)


# --- the table ---


def test_every_price_is_sourced_and_dated():
    table = price_table()
    assert set(FIXED_PRICES) <= set(table)
    for name, price in table.items():
        assert price.value > 0, name
        assert len(price.source) > 20, name
        assert re.fullmatch(r"20\d\d(-\d\d)?|undated", price.date), name
        assert price.unit in {"minute", "hour", "1M characters", "1M tokens"}, name
    assert [name for name, price in table.items() if price.date == "undated"] == ["voip_leg"]


def realtime_prices(model, text_output):
    prices = {"audio_input": 32.0, "audio_output": 64.0, "text_input": 4.0, "text_output": text_output}
    return {f"{model}.{kind}": price for kind, price in (prices | CACHED).items()}


CACHED = {"cached_text_input": 0.4, "cached_audio_input": 0.4}


def test_list_prices():
    values = {name: float(price.value) for name, price in price_table().items()}
    assert values == {
        "pstn_inbound": 0.0085,
        "pstn_outbound": 0.013,
        "toll_free_inbound": 0.022,
        "voip_leg": 0.004,
        "stt": 1.0,
        "tts_neural": 15.0,
        "tts_neural_hd": 30.0,
        "gpt-4o.input": 2.5,
        "gpt-4o.output": 10.0,
        "gpt-4o-mini.input": 0.15,
        "gpt-4o-mini.output": 0.6,
        **realtime_prices("gpt-realtime", 16.0),
        **realtime_prices("gpt-realtime-1.5", 16.0),
        **realtime_prices("gpt-realtime-2", 24.0),
    }


# --- exact sums ---


@pytest.mark.parametrize(
    ("settings", "item", "expected"),
    [
        ({"telephony": "pstn_inbound"}, "telephony", 0.02125),  # 2.5 min
        ({"telephony": "pstn_outbound"}, "telephony", 0.0325),
        ({"telephony": "toll_free_inbound"}, "telephony", 0.055),
        ({"voip_legs": 1}, "voip", 0.01),
        ({"voip_legs": 3}, "voip", 0.03),
        ({"stt": "speech"}, "stt", 0.005),  # 18 s
        ({"tts": "neural"}, "tts", 0.0105),  # 700 characters
        ({"tts": "neural_hd"}, "tts", 0.021),
    ],
)
def test_one_item(settings, item, expected):
    usage = CallUsage(minutes=2.5, caller_speech_s=18, agent_characters=700)
    found = cost(usage, **settings)
    assert found.items == {item: expected}
    assert found.total == expected
    assert found.estimated == frozenset()


def test_recognition_of_the_whole_stream_is_charged_by_the_call():
    assert cost(CallUsage(minutes=3, caller_speech_s=18), stt="stream").items == {"stt": 0.05}


def test_reported_tokens_are_taken_as_they_are():
    usage = CallUsage(1, 10, 20, 3, 100, 400, input_tokens=4_000, output_tokens=250)
    found = cost(usage, llm="gpt-4o", prompt_tokens=10_000)
    assert found.items == {"llm_input": 0.01, "llm_output": 0.0025}
    assert found.total == 0.0125
    assert found.estimated == frozenset()


def test_estimated_tokens_of_one_turn():
    usage = CallUsage(1, caller_characters=80, agent_characters=400)
    found = cost(usage, llm="gpt-4o", prompt_tokens=500)
    assert found.items == {"llm_input": 0.0013, "llm_output": 0.001}  # 80/4 + 500 in, 400/4 out
    assert found.estimated == {"llm_input", "llm_output"}


def test_the_conversation_so_far_is_sent_again():
    usage = CallUsage(1, turns=4, caller_characters=160, agent_characters=480)
    with_history = cost(usage, llm="gpt-4o", prompt_tokens=100)
    without = cost(usage, llm="gpt-4o", prompt_tokens=100, history=False)
    assert without.items["llm_input"] == 0.0011  # 160/4 + 4·100 = 440
    # four turns of 10 + 30 tokens: 0 + 40 + 80 + 120 tokens of history
    assert with_history.items["llm_input"] == 0.0017  # 440 + 240 = 680
    assert with_history.items["llm_output"] == without.items["llm_output"]


def test_one_side_reported():
    found = cost(CallUsage(1, agent_characters=400, output_tokens=90), llm="gpt-4o")
    assert found.estimated == {"llm_input"}
    assert found.items["llm_output"] == 0.0009


def test_without_text_characters_come_from_speech():
    found = cost(CallUsage(1, caller_speech_s=8, agent_speech_s=40), tts="neural", llm="gpt-4o", history=False)
    assert found.items == {"tts": 0.009, "llm_input": 0.000075, "llm_output": 0.0015}  # 15 characters a second
    assert found.estimated == {"tts", "llm_input", "llm_output"}


def test_realtime_audio():
    usage = CallUsage(1, caller_speech_s=20, agent_speech_s=30)
    found = cost(usage, realtime="gpt-realtime")
    assert found.items == {"realtime_input": 0.0064, "realtime_output": 0.0384}  # 200 and 600 tokens
    assert found.estimated == {"realtime_input", "realtime_output"}
    reported = CallUsage(1, 20, 30, audio_input_tokens=1000, audio_output_tokens=500)
    assert cost(reported, realtime="gpt-realtime").items == {"realtime_input": 0.032, "realtime_output": 0.032}
    assert cost(reported, realtime="gpt-realtime").estimated == frozenset()


def test_realtime_text_and_cached_tokens_have_their_own_prices():
    reported = CallUsage(
        1,
        input_tokens=1_000_000,
        output_tokens=100_000,
        audio_input_tokens=2_000_000,
        audio_output_tokens=500_000,
        cached_input_tokens=600_000,
        cached_audio_input_tokens=1_500_000,
    )
    found = cost(reported, realtime="gpt-realtime")
    assert found.items == {
        "realtime_input": 16.0,  # 0.5M at $32
        "realtime_output": 32.0,  # 0.5M at $64
        "realtime_cached": 0.84,  # 2.1M at $0.40
        "realtime_text_input": 1.6,  # 0.4M at $4
        "realtime_text_output": 1.6,  # 0.1M at $16
    }
    assert found.total == pytest.approx(52.04) and not found.estimated
    own = {"mine.audio_input": 32, "mine.audio_output": 64}
    assert cost(reported, realtime="mine", prices=own).items == {"realtime_input": 64.0, "realtime_output": 32.0}
    both = cost(reported, realtime="gpt-realtime", llm="gpt-4o")
    assert both.estimated == {"llm_input", "llm_output"}, "the text that was reported is not the chat model's"


def test_a_whole_call():
    usage = CallUsage(3, 30, 60, 5, 450, 900, input_tokens=6_000, output_tokens=300)
    found = cost(usage, telephony="pstn_inbound", voip_legs=1, stt="stream", tts="neural", llm="gpt-4o-mini")
    assert found.items == {
        "telephony": 0.0255,
        "voip": 0.012,
        "stt": 0.05,
        "tts": 0.0135,
        "llm_input": 0.0009,
        "llm_output": 0.00018,
    }
    assert found.total == 0.10208


def test_sums_are_decimal():
    assert cost(CallUsage(0.1 + 0.2), voip_legs=1).total == pytest.approx(0.0012)
    assert cost(CallUsage(0.3), telephony="pstn_outbound", voip_legs=1).total == 0.0051


amounts = st.floats(0, 1e5, allow_nan=False)


@given(amounts, amounts, amounts, st.integers(1, 100), st.none() | st.integers(0, 10**7))
def test_the_total_is_the_sum_and_never_negative(minutes, heard, spoken, turns, tokens):
    found = CostModel(ALL).call_cost(CallUsage(minutes, heard, spoken, turns, input_tokens=tokens))
    assert found.total == pytest.approx(math.fsum(found.items.values()))
    assert min(found.items.values()) >= 0
    assert found.estimated <= set(found.items)
    assert ("llm_input" in found.estimated) == (tokens is None)


def test_a_call_that_never_was_costs_nothing():
    assert CostModel(ALL).call_cost(CallUsage(0, turns=0)).total == 0


# --- settings ---


def test_prices_can_be_overridden():
    model = CostModel(CostSettings(telephony="pstn_inbound", stt="stream", prices={"stt": 0.36}))
    assert model.call_cost(CallUsage(10)).items == {"telephony": 0.085, "stt": 0.06}
    assert model.prices["stt"].source == "scenario"
    assert model.prices["stt"].unit == "hour"
    assert "Azure" in model.prices["pstn_inbound"].source
    assert set(model.prices) == {"pstn_inbound", "stt"}


def test_a_model_of_ones_own():
    prices = {"llama.input": 0.2, "llama.output": 0.8}
    found = cost(CallUsage(1, input_tokens=10_000, output_tokens=1_000), llm="llama", prices=prices)
    assert found.items == {"llm_input": 0.002, "llm_output": 0.0008}


def test_a_model_without_prices_is_an_error_that_names_them_all():
    with pytest.raises(BadInputError) as caught:
        CostModel(CostSettings(llm="llama", realtime="other", prices={"llama.input": 1}))
    assert [problem.message.split("'")[1] for problem in caught.value.problems] == [
        "llama.output",
        "other.audio_input",
        "other.audio_output",
    ]
    assert "cost.prices" in caught.value.problems[0].suggestion


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing is charged"),
        ({"telephony": "pstn_inbound", "prices": {"sst": 1.0}}, "no price is called 'sst'"),
        ({"telephony": "pstn_inbound", "prices": {"stt": -1.0}}, "must not be negative"),
        ({"telephony": "pstn_inbound", "prices": {"stt": float("nan")}}, "finite number"),
        ({"telephony": "satellite"}, "pstn_inbound"),
        ({"voip_legs": -1}, "greater than or equal to 0"),
        ({"llm": "gpt-4o", "characters_per_token": 0}, "greater than 0"),
        ({"stt": "stream", "ttss": "neural"}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValidationError, match=message):
        CostSettings(**settings)
