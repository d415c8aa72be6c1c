"""`voxload plan` as a user runs it."""

import json

import pytest
from conftest import SCENARIO


def test_the_specifications_scale(voxload):
    done = voxload("plan", "--calls", "10000", "--daily", "100000", "--html", "plan.html", "--json")
    assert done.code == 1, done.err
    plan = json.loads(done.out)
    rows = {row["limit"]: row for row in plan["rows"]}
    assert plan["first"] == "speech.concurrent_streams"
    assert rows["openai.tokens_per_minute"]["demand"] == pytest.approx(10_000 / 180 * 10 * 600 * 60)
    assert rows["eventgrid.events_per_s"]["utilisation"] < 0.05
    page = (voxload.folder / "plan.html").read_text()
    assert "speech.concurrent_streams breaks first" in page
    assert page.count("<polyline") == 5


def test_the_specifications_day_and_its_recommended_limits(voxload):
    path = voxload.write({**SCENARIO, "load": {"shape": "day", "calls": 100_000}})
    done = voxload("plan", str(path), "--limits", "specification-recommended", "--json")
    plan = json.loads(done.out)
    limits = {row["limit"]: row["value"] for row in plan["rows"]}
    assert limits == {
        "acs.concurrent_calls": 10_000,
        "speech.concurrent_streams": 200,
        "openai.tokens_per_minute": 1_000_000,
        "redis.connections": 2_500,
        "eventgrid.events_per_s": 50_000,
    }
    busiest = plan["arrival_rate_per_s"]
    assert busiest == pytest.approx(100_000 * 0.15 / 3600, rel=0.01)
    shown = voxload("plan", "--calls", "10000", "--limits", "specification-recommended").out
    for words in ("20M", "26M", "2.25M", "10,000", "breaks at"):
        assert words in shown
    assert "…" not in shown


def test_a_scenario_with_prices_that_fits(voxload):
    cost = {"telephony": "pstn_inbound", "stt": "stream", "tts": "neural", "llm": "gpt-4o-mini"}
    path = voxload.write({**SCENARIO, "cost": cost})
    done = voxload("plan", str(path), "--calls", "5", "--daily", "1K", "--simulate")
    assert done.code == 0, done.err
    for words in ("fit into every limit", "a day", "scenario", "simulated"):
        assert words in done.out


def test_wrong_input_is_told(voxload):
    done = voxload("plan")
    assert (done.code, "--calls" in done.err) == (2, True)
    done = voxload("plan", "--calls", "many")
    assert (done.code, "'many' is not an amount" in done.err) == (2, True)
    done = voxload("plan", "--calls", "5", "--limit", "redis.conections=4")
    assert (done.code, "did you mean redis.connections?" in done.err) == (2, True)
    assert "Traceback" not in done.err
