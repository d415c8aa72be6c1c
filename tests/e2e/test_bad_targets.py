"""Targets that are down, silent, rude or broken: counted under the right outcome, never a crash, never a hang."""

import contextlib

import bad_targets as bad
import in_process
import pytest
from conftest import scenario_with

from voxload.verdict.expression import parse_gate
from voxload.verdict.gate import judge

CALLS = 10
"""A rate needs as many to be judged."""


def scenario(url, setup="10s", calls=CALLS):
    """Only a target that never answers needs a short set-up: a flood may well hold up those of the other calls."""
    return scenario_with(
        target=url,
        load={"shape": "constant", "arrival_rate": calls, "duration": "1s"},
        timeouts={"agent_reply": "1s", "setup": setup, "connect": setup, "hang_up": "500ms"},
    )


HANDLERS = {
    "accepts and stays silent": (bad.silent, "setup_timeout"),
    "answers 503": (bad.http("503 Service Unavailable"), "rejected"),
    "answers 429": (bad.http("429 Too Many Requests"), "rejected"),
    "answers no session": (bad.http("200 OK", b"{}"), "protocol_error"),
    "answers no JSON": (bad.http("200 OK", b"<html>"), "protocol_error"),
    "refuses the socket": (bad.media(bad.silent, handshake="403 Forbidden"), "rejected"),
    "is silent on the socket": (bad.media(bad.silent), "agent_silent"),
    "hangs up in mid-call": (bad.media(bad.hangs_up), "dropped_by_target"),
    "closes in good order": (bad.media(bad.says(bad.frame(b"\x03\xe9", 8))), "dropped_by_target"),
    "sends garbage": (bad.media(bad.says(bad.frame(b"hello, is this JSON?"))), "protocol_error"),
    "breaks the WebSocket protocol": (bad.media(bad.says(b"\xff\xff\xff\xff\xff" * 50)), "protocol_error"),
    "speaks unknown words": (bad.media(bad.says(bad.frame(b'{"type":"weather"}') * 5)), "agent_silent"),
}


MORE = {
    "speaks in fragments": bad.media(
        bad.says(bad.frame(b'{"type":"wea', 1, fin=False) + bad.frame(b"th", 0, fin=False) + bad.frame(b'er"}', 0))
    ),
}
ALONE = {
    "answers 503": (bad.http("503 Service Unavailable"), "rejected", 1),
    "resets": (bad.resets, "connect_failed", 3),
}
"""By whole runs, with their exit codes."""


def right(name, summary):
    return name in MORE or summary.totals.outcomes == {HANDLERS[name][1]: CALLS}


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    """What was measured of the calls to each target, all of them called at the same time."""
    with contextlib.ExitStack() as stack:
        served = {name: handler for name, (handler, _) in HANDLERS.items()} | MORE
        scenarios = {}
        for name, handler in served.items():
            setup = "1s" if name in HANDLERS and HANDLERS[name][1] == "setup_timeout" else "10s"
            scenarios[name] = scenario(stack.enter_context(bad.serve(handler)), setup)
        return in_process.place(tmp_path_factory.mktemp("targets"), scenarios, apart_ms=200, right=right)


@pytest.mark.parametrize("name", HANDLERS)
def test_outcome(called, name):
    summary, outcome = called[name], HANDLERS[name][1]
    assert summary.totals.outcomes == {outcome: CALLS}, summary.errors
    assert summary.errors[0].outcome == outcome
    judged = judge(summary, [("", parse_gate("call_success >= 99%"))])
    assert judged.gates[0].status == "fail"
    assert judged.verdict.exit_code == 1 or "fell behind" in judged.verdict.reasons[0], judged.verdict


@pytest.mark.parametrize("name", ALONE)
def test_exit_code(voxload, name):
    handler, outcome, code = ALONE[name]
    with bad.serve(handler) as url:
        done = voxload.run(scenario(url), "--gate", "call_success >= 99%", timeout_s=40)
    assert "Traceback" not in done.err
    assert done.summary.totals.outcomes == {outcome: CALLS}, done.summary.errors
    assert done.summary.errors[0].outcome == outcome
    # where nothing was connected at all, the run says nothing of the agent
    assert done.code == code, done.summary.verdict


def test_a_flood_does_not_hold_up_the_generator(voxload):
    few = 3  # more floods at once can make the generator itself late
    with bad.serve(bad.media(bad.floods)) as url:
        done = voxload.run(scenario(url, calls=few), "--gate", "call_success >= 99%", timeout_s=40)
    assert "Traceback" not in done.err
    assert done.summary.totals.outcomes == {"protocol_error": few}, done.summary.errors
    assert done.summary.errors[0].outcome == "protocol_error"
    (reason,) = done.summary.verdict.reasons
    assert (done.code, f"only {few} observations" in reason) == (4, True), reason


def test_unknown_words_are_counted(called):
    assert called["speaks unknown words"].totals.unknown_messages == {"weather": 5 * CALLS}


def test_a_message_in_fragments_is_put_together(called):
    assert called["speaks in fragments"].totals.unknown_messages == {"weather": CALLS}


def test_nobody_listens(voxload):
    done = voxload.run(
        scenario_with(target=bad.refused_url(), load={"shape": "constant", "arrival_rate": 20, "duration": "60s"})
    )
    assert done.code == 3
    assert set(done.summary.totals.outcomes) <= {"connect_failed", "cancelled"}
    assert "cannot be reached" in done.summary.run.cut_short
    assert done.summary.verdict.status == "aborted"


def test_an_unknown_host(voxload):
    done = voxload.run(
        scenario_with(
            target="http://no-such-host.invalid", load={"shape": "constant", "arrival_rate": 20, "duration": "5s"}
        )
    )
    assert done.code == 3
    assert "connect_failed" in done.summary.totals.outcomes
