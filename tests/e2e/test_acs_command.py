"""`voxload acs`: a backend written with the SDK is rung from the command line."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import acs_backends
import pytest
import requests
from acs_backends import Manners

from voxload.errors import ExitCode


@contextlib.contextmanager
def serving(folder: Path, *options: str):
    child = subprocess.Popen(
        [sys.executable, "-m", "voxload", "acs", "serve", "--port", "0", "--tls", "--json", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    yield json.loads(child.stdout.readline())
    child.terminate()
    assert child.wait(10) == 0


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("acs")) as told:
        yield told


def test_serve_prints_what_a_backend_needs(served):
    variables = served["environment"]
    assert variables["COMMUNICATION_SERVICES_CONNECTION_STRING"].startswith(
        f"endpoint={served['endpoint']}/;accesskey="
    )
    authority = variables["REQUESTS_CA_BUNDLE"]
    assert requests.get(served["endpoint"] + "/health", verify=authority, timeout=5).json()["status"] == "healthy"
    assert requests.get(served["url"] + "/health", timeout=5).json()["active_calls"] == 0


def test_call_rings_once_and_tells_the_steps(voxload, served):
    with acs_backends.serve(served["url"], Manners()) as backend:
        done = voxload(
            "acs", "call", f"{backend.url}/api/incomingCall", "--exchange", served["url"], "--seconds", "0.2"
        )
    assert done.code == ExitCode.PASSED, done.err
    lines = done.out.splitlines()
    assert "the media socket is open" in lines
    assert lines[-1] == "completed: the caller hung up"
    assert backend.seen.events == ["CallConnected", "ParticipantsUpdated", "MediaStreamingStarted", "CallDisconnected"]
    assert backend.seen.kinds.count("AudioMetadata") == 1


@pytest.mark.parametrize(
    ("manners", "words"),
    [
        (Manners(webhook_status=503), "rejected: the webhook answered 503 to IncomingCall"),
        (Manners(media_status=403), "was refused with 403"),
        (Manners(takes="reject"), "rejected: the backend rejected the call"),
    ],
)
def test_call_names_the_step_that_failed(voxload, served, manners, words):
    with acs_backends.serve(served["url"], manners) as backend:
        done = voxload("acs", "call", f"{backend.url}/api/incomingCall", "--exchange", served["url"], "--json")
    assert done.code == ExitCode.ABORTED
    last = json.loads(done.out.splitlines()[-1])
    assert words in f"{last['outcome']}: {last['reason']}"


def test_call_rings_the_webhook_of_the_exchange(voxload):
    with serving(voxload.folder, "--webhook", "http://127.0.0.1:9/hook") as served:
        done = voxload("acs", "call", "--exchange", served["url"])
    assert done.code == ExitCode.ABORTED
    assert done.out.splitlines()[-1].startswith("connect_failed: the webhook http://127.0.0.1:9/hook cannot be reached")


def test_call_needs_a_webhook(voxload, served):
    done = voxload("acs", "call", "--exchange", served["url"])
    assert done.code == ExitCode.BAD_INPUT
    assert "no webhook" in done.err


def test_call_without_an_exchange_says_how_to_start_one(voxload):
    done = voxload("acs", "call", "http://127.0.0.1:9/", "--exchange", "http://127.0.0.1:9")
    assert done.code == ExitCode.ABORTED
    assert "voxload acs serve" in done.err


def test_a_wrong_access_key_is_bad_input(voxload):
    done = voxload("acs", "serve", "--access-key", "no base64!")
    assert done.code == ExitCode.BAD_INPUT
    assert "--access-key" in done.err
