"""Phone calls to backends that behave and to some that do not: the right outcome, and words that name the step."""

import socket

import acs_backends
import pytest
from acs_backends import Manners
from conftest import scenario_with

CALLS = 6


@pytest.fixture
def exchange_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def scenario(url, port, **options):
    return scenario_with(
        target=url,
        dialect={"name": "acs", "listen": f"127.0.0.1:{port}", "service": {"webhook_timeout": "1s"}} | options,
        load={"shape": "constant", "arrival_rate": CALLS, "duration": "1s"},
        calls=[{"name": "greeted", "script": ["wait_for_agent", {"dtmf": "12"}]}],
        timeouts={"agent_reply": "1s", "setup": "2s", "connect": "1s", "hang_up": "500ms"},
    )


def run(voxload, port, manners, **options):
    with acs_backends.serve(f"http://127.0.0.1:{port}", manners) as backend:
        done = voxload.run(scenario(backend.url, port, **options), timeout_s=60)
    assert "Traceback" not in done.err, done.err
    return done, backend.seen


def test_a_backend_with_good_manners(voxload, exchange_port):
    done, seen = run(voxload, exchange_port, Manners())
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


def test_a_backend_that_ends_the_call_itself(voxload, exchange_port):
    with acs_backends.serve(f"http://127.0.0.1:{exchange_port}", Manners(hangs_up_after_s=1.2)) as backend:
        expected = scenario(backend.url, exchange_port)
        expected["calls"] = [{"name": "greeted", "script": ["wait_for_agent", "wait_for_hang_up"]}]
        expected["timeouts"]["agent_reply"] = "3s"
        done = voxload.run(expected, timeout_s=60)
    assert done.summary.totals.outcomes == {"completed": CALLS}, done.summary.errors
    assert backend.seen.events.count("CallDisconnected") == len(backend.seen.headers)


def test_a_backend_that_hangs_up_at_once_when_a_key_is_pressed(voxload, exchange_port):
    """The script comes to `wait_for_hang_up` only after the key's gap: the agent has had its cue before."""
    with acs_backends.serve(f"http://127.0.0.1:{exchange_port}", Manners(hangs_up_on_key=True)) as backend:
        expected = scenario(backend.url, exchange_port)
        expected["calls"] = [{"name": "done", "script": ["wait_for_agent", {"dtmf": "0"}, "wait_for_hang_up"]}]
        done = voxload.run(expected, timeout_s=60)
        expected["calls"] = [{"name": "early", "script": ["wait_for_agent", {"dtmf": "0"}, {"listen": "3s"}]}]
        early = voxload.run(expected, timeout_s=60)
    assert done.summary.totals.outcomes == {"completed": CALLS}, done.summary.errors
    assert early.summary.totals.outcomes == {"dropped_by_target": CALLS}, early.summary.errors


BAD = {
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


@pytest.mark.parametrize("name", BAD)
def test_outcome_and_step(voxload, exchange_port, name):
    manners, outcome, words = BAD[name]
    done, _ = run(voxload, exchange_port, manners)
    assert done.summary.totals.outcomes == {outcome: CALLS}, done.summary.errors
    assert words in done.summary.errors[0].text, done.summary.errors


def test_a_dead_webhook(voxload, exchange_port):
    done = voxload.run(scenario("http://127.0.0.1:9", exchange_port))
    assert done.summary.totals.outcomes == {"connect_failed": CALLS}, done.summary.errors
    assert "webhook" in done.summary.errors[0].text


def test_a_backend_that_answers_twice_is_reported_and_keeps_its_call(voxload, exchange_port):
    done, seen = run(voxload, exchange_port, Manners(answers=2))
    assert done.summary.totals.outcomes == {"completed": CALLS}, done.summary.errors
    assert sum(done.summary.totals.peer_errors.values()) >= CALLS, done.summary.totals
    assert seen.errors == [409] * len(seen.headers)


def test_a_backend_whose_callbacks_fail_is_reported(voxload, exchange_port):
    done, _ = run(voxload, exchange_port, Manners(callback_status=500))
    assert done.summary.totals.outcomes == {"completed": CALLS}, done.summary.errors
    assert any("callback" in code for code in done.summary.totals.peer_errors), done.summary.totals


def test_a_backend_of_24_kilohertz(voxload, exchange_port):
    done, _ = run(voxload, exchange_port, Manners(sample_rate=24000), sample_rate=24000)
    assert done.summary.totals.outcomes == {"completed": CALLS}, done.summary.errors
