"""What a look after the load means, case by case."""

import msgspec
import pytest

from voxload.measure.recovery import (
    _levels,
    leaked_sessions,
    never_recovered,
    recovery_findings,
    settled,
)
from voxload.measure.summary import CallRecord, HealthLook, Recovery
from voxload.model.recovery import parse_expectation

BEFORE = HealthLook(-1.0, "/h", True, 3.0, 200.0)


def probe(outcome="completed", due_s=1.0, error=""):
    return CallRecord(0, "c", "short", "recovery", due_s, outcome, error=error)


def seen(**changes):
    look = HealthLook(30.2, "/h", True, 203.0, 200.0)
    whole = Recovery(30.0, 31.4, 2, [probe(), probe()], 1.0, [BEFORE], [look])
    return msgspec.structs.replace(whole, **changes)


def words(recovery):
    return [(finding.tone, f"{finding.title}: {finding.body}") for finding in recovery_findings(recovery)]


def test_sessions_of_before_the_run_are_not_counted():
    recovery = seen()
    assert leaked_sessions(recovery, recovery.looks[0]) == 200
    assert not settled(recovery.looks, recovery)
    told = "203 of 200 slots still held 30 s after the last call (3 before the run; GET /h)."
    assert ("bad", f"Sessions are still held: {told}") in words(recovery)
    fewer = HealthLook(30.0, "/h", True, 1.0)
    assert leaked_sessions(recovery, fewer) == 0
    assert settled([fewer], recovery)


def test_without_a_number_before_nothing_is_known():
    recovery = seen(before=[])
    assert leaked_sessions(recovery, recovery.looks[0]) is None
    assert [tone for tone, _ in words(recovery)] == ["good", "unsure"]


def test_a_target_that_refuses():
    refused = [probe("rejected", at, "handshake answered 503") for at in (1.0, 2.0)] + [probe("setup_timeout", 3.0)]
    recovery = seen(probes=refused, recovery_time_s=None)
    assert never_recovered(recovery) == "no probe call completed within 31 s"
    tone, told = words(recovery)[0]
    assert tone == "bad"
    assert "3 probe calls failed (2 times rejected: handshake answered 503; setup_timeout)" in told
    cut = msgspec.structs.replace(recovery, problem="interrupted")
    assert never_recovered(cut) == ""
    assert {tone for tone, _ in words(cut)} == {"unsure"}


def test_a_target_that_recovers_late():
    recovery = seen(probes=[probe("rejected", 0.5, "503"), probe(due_s=9.25), probe(due_s=11)], recovery_time_s=9.25)
    tone, told = words(recovery)[0]
    assert tone == "unsure"
    assert "placed 9.2 s after the last call completed" in told and "Of 3 probe calls 1 failed" in told


@pytest.mark.parametrize(
    ("text", "body", "holds"),
    [
        ("$.n <= 0", {"n": 0}, True),
        ("$.n <= 0", {"n": 1}, False),
        ("$.n <= 0", {}, False),
        ("$.n <= 0", {"n": "0"}, False),
        ("$.n == 1", {"n": True}, False),
        ("$.n != 1", {"n": True}, True),
        ('$.s == "up"', {"s": "up"}, True),
        ("$.s == 'up'", {"s": "down"}, False),
        ("$.ok == true", {"ok": True}, True),
        ("$.a[0]['b c'] > 1.5", {"a": [{"b c": 2}]}, True),
        ("$.a[?@.k == 2].v == 3", {"a": [{"k": 1, "v": 1}, {"k": 2, "v": 3}]}, True),
        ("$.x == null", {"x": None}, True),
    ],
)
def test_expectations(text, body, holds):
    assert (parse_expectation(text).broken(body) == "") is holds


@pytest.mark.parametrize("text", ["", "$.n", "n <= 0", "$.n <= x", "$.n < true", "$.n[ == 1", "$.n ~ 1"])
def test_what_is_no_expectation(text):
    with pytest.raises(ValueError, match=r"expectation|JSON|compares numbers"):
        parse_expectation(text)


def levels(**changes):
    return _levels(seen(looks=[HealthLook(9.0, "/h", True, 3.0, broken=["it answered 503"])], **changes))


def test_only_what_is_known_becomes_a_metric():
    assert levels() == {"recovery_time": 1.0, "leaked_sessions": 0.0, "health_failures": 1.0}
    never_well = HealthLook(-1.0, "/h", True, None, broken=["it answered 404"])
    assert levels(before=[never_well]) == {"recovery_time": 1.0}
    assert levels(problem="interrupted") == {"recovery_time": 1.0, "leaked_sessions": 0.0}
    assert _levels(seen(problem="interrupted")) == {"recovery_time": 1.0, "health_failures": 0.0}
    assert _levels(seen(looks=[], before=[], recovery_time_s=None)) == {}
