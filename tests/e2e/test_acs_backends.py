"""Phone calls to backends that behave and to some that do not: the right outcome, and words that name the step."""

import contextlib
import socket

import acs_backends
import in_process
import pytest
from acs_backends import Manners
from conftest import scenario_with

from voxload.standins.acs.process import ExchangeProcess

CALLS = 3


@pytest.fixture
def exchange_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def scenario(url, **options):
    return scenario_with(
        target=url,
        dialect={"name": "acs"} | options,
        load={"shape": "constant", "arrival_rate": CALLS, "duration": "1s"},
        calls=[{"name": "greeted", "script": ["wait_for_agent", {"dtmf": "12"}]}],
        timeouts={"agent_reply": "1s", "setup": "2s", "connect": "1s", "hang_up": "500ms"},
    )


def script(*steps):
    return [{"name": "greeted", "script": ["wait_for_agent", *steps]}]


def test_a_backend_with_good_manners(voxload, exchange_port):
    """With the processes of a whole run, the exchange among them."""
    own = {"listen": f"127.0.0.1:{exchange_port}", "service": {"webhook_timeout": "1s"}}
    with acs_backends.serve(f"http://127.0.0.1:{exchange_port}", Manners()) as backend:
        done = voxload.run(scenario(backend.url, **own), timeout_s=60)
    seen = backend.seen
    assert "Traceback" not in done.err, done.err
    assert done.summary.totals.outcomes == {"completed": CALLS}, done.summary.errors
    assert seen.errors == []
    calls = len(seen.headers)  # a run on a machine that was too busy is done again
    assert seen.kinds.count("AudioMetadata") == calls
    assert seen.kinds.count("DtmfData") == 2 * calls
    for event in ("CallConnected", "MediaStreamingStarted", "CallDisconnected"):
        assert seen.events.count(event) == calls, seen.events
    headers = {name.lower() for name in seen.socket_headers[0]}
    assert {"authorization", "x-ms-call-connection-id", "x-ms-call-correlation-id"} <= headers
    webhook = {name.lower(): value for name, value in seen.headers[0].items()}
    traces = {
        value.split("-")[1] for names in seen.socket_headers for name, value in names.items() if name == "traceparent"
    }
    assert webhook["traceparent"].split("-")[1] in traces, (webhook, traces)


SET_UP = {
    "500": (Manners(webhook_status=500), "rejected", "answered 500 to IncomingCall"),
    "fails the validation": (Manners(validates=False), "protocol_error", "validation"),
    "slow": (Manners(webhook_delay_s=10), "setup_timeout", "did not answer"),
    "takes no call": (Manners(takes="nothing"), "setup_timeout", "waited for the backend to answer"),
    "rejects": (Manners(takes="reject"), "rejected", "rejected the call"),
    "wrong signature": (Manners(key="d3Jvbmc="), "rejected", "401"),
    "callback that is no URL": (Manners(callback_uri="nonsense"), "rejected", "callbackUri"),
    "wants no media": (Manners(media=False), "setup_timeout", "media streaming"),
    "socket refused with 403": (Manners(media_status=403), "rejected", "403"),
    "socket refused with 500": (Manners(media_status=500), "rejected", "500"),
    "no socket there": (Manners(transport_url="ws://127.0.0.1:9/ws"), "connect_failed", "media socket"),
    "another sample rate": (Manners(sample_rate=24000), "protocol_error", "sample_rate: 24000"),
}

OUTCOMES = {name: outcome for name, (_, outcome, _) in SET_UP.items()} | {
    "hangs up on a key, too early": "dropped_by_target",
    "dead webhook": "connect_failed",
}
"""All others: completed."""
OTHERS = {
    "ends the call": Manners(hangs_up_after_s=1.2),
    "hangs up on a key": Manners(hangs_up_on_key=True),
    "hangs up on a key, too early": Manners(hangs_up_on_key=True),
    "answers twice": Manners(answers=2),
    "callbacks fail": Manners(callback_status=500),
    "24 kilohertz": Manners(sample_rate=24000),
}


def right(name, summary):
    return summary.totals.outcomes == {OUTCOMES.get(name, "completed"): CALLS}


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    """What was measured of the calls to each backend, and what it has seen: all of them ring through one exchange."""
    manners = {name: given for name, (given, _, _) in SET_UP.items()} | OTHERS
    with contextlib.ExitStack() as stack:
        exchange = stack.enter_context(ExchangeProcess({"webhook_timeout": "1s"})).url
        backends = {name: stack.enter_context(acs_backends.serve(exchange, given)) for name, given in manners.items()}
        scenarios = {name: scenario(backend.url, exchange=exchange) for name, backend in backends.items()}
        scenarios["ends the call"]["calls"] = script("wait_for_hang_up")
        scenarios["ends the call"]["timeouts"]["agent_reply"] = "3s"
        scenarios["hangs up on a key"]["calls"] = script({"dtmf": "0"}, "wait_for_hang_up")
        scenarios["hangs up on a key, too early"]["calls"] = script({"dtmf": "0"}, {"listen": "3s"})
        scenarios["24 kilohertz"]["dialect"]["sample_rate"] = 24000
        scenarios["dead webhook"] = scenario("http://127.0.0.1:9", exchange=exchange)
        found = in_process.place(tmp_path_factory.mktemp("backends"), scenarios, apart_ms=300, right=right)
        return {name: (summary, backends[name].seen if name in backends else None) for name, summary in found.items()}


def test_a_backend_that_ends_the_call_itself(called):
    summary, seen = called["ends the call"]
    assert summary.totals.outcomes == {"completed": CALLS}, summary.errors
    assert seen.events.count("CallDisconnected") == len(seen.headers)


def test_a_backend_that_hangs_up_at_once_when_a_key_is_pressed(called):
    """The script comes to `wait_for_hang_up` only after the key's gap: the agent has had its cue before."""
    summary, _ = called["hangs up on a key"]
    assert summary.totals.outcomes == {"completed": CALLS}, summary.errors
    summary, _ = called["hangs up on a key, too early"]
    assert summary.totals.outcomes == {"dropped_by_target": CALLS}, summary.errors


@pytest.mark.parametrize("name", SET_UP)
def test_outcome_and_step(called, name):
    _, outcome, words = SET_UP[name]
    summary, _ = called[name]
    assert summary.totals.outcomes == {outcome: CALLS}, summary.errors
    assert words in summary.errors[0].text, summary.errors


def test_a_dead_webhook(called):
    summary, _ = called["dead webhook"]
    assert summary.totals.outcomes == {"connect_failed": CALLS}, summary.errors
    assert "webhook" in summary.errors[0].text


def test_a_backend_that_answers_twice_is_reported_and_keeps_its_call(called):
    summary, seen = called["answers twice"]
    assert summary.totals.outcomes == {"completed": CALLS}, summary.errors
    assert sum(summary.totals.peer_errors.values()) >= CALLS, summary.totals
    assert seen.errors == [409] * len(seen.headers)


def test_a_backend_whose_callbacks_fail_is_reported(called):
    summary, _ = called["callbacks fail"]
    assert summary.totals.outcomes == {"completed": CALLS}, summary.errors
    assert any("callback" in code for code in summary.totals.peer_errors), summary.totals


def test_a_backend_of_24_kilohertz(called):
    summary, _ = called["24 kilohertz"]
    assert summary.totals.outcomes == {"completed": CALLS}, summary.errors
