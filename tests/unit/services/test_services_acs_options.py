"""Whom to call and which settings make sense."""

import sys

import pytest
from pydantic import ValidationError

from voxload.clock import monotonic_ns, unix_ns
from voxload.errors import BadInputError
from voxload.measure.recorder import Recorder
from voxload.services.acs.component import AcsComponent
from voxload.services.acs.options import AcsOptions, AcsSettings, Callees
from voxload.services.base import ComponentRun


def test_ranges_lists_and_raw_ids_are_taken_in_turn():
    callees = Callees(("+15550100008..+15550100010", "8:acs:someone", "+4930123456"))
    assert [callees.raw_id(index) for index in range(6)] == [
        "4:+15550100008",
        "4:+15550100009",
        "4:+15550100010",
        "8:acs:someone",
        "4:+4930123456",
        "4:+15550100008",
    ]


@pytest.mark.parametrize("text", ["5550100", "+1555..+15", "+15550100009..+15550100001", "acs"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValidationError):
        AcsOptions.model_validate({"to": text})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"endpoint": "https://x.communication.azure.com", "callback_url": "https://y"}, "exactly one"),
        ({"endpoint": "https://x.communication.azure.com", "entra": True}, "callback_url"),
        ({"connection_string": {"env": "A"}}, "callback_url"),
        ({"connection_string": {"env": "A"}, "entra": True, "callback_url": "https://y"}, "exactly one"),
        ({"media": 8000}, "16000"),
        ({"listen": "here"}, "HOST:PORT"),
        ({"endpoint": "x.communication.azure.com"}, "http://"),
    ],
)
def test_settings_that_cannot_work(options, words):
    with pytest.raises(ValidationError, match=words):
        AcsOptions.model_validate(options)


def test_a_local_service_needs_no_public_address():
    assert not AcsOptions.model_validate({"endpoint": "http://127.0.0.1:8181", "access_key": "eA=="}).own_service
    assert AcsOptions().own_service


async def test_without_the_extra_the_command_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "azure.communication.callautomation.aio", None)
    component = AcsComponent(AcsSettings(component="acs"), ComponentRun("run", Recorder(), monotonic_ns, unix_ns))
    with pytest.raises(BadInputError, match=r"pip install 'voxload\[acs\]'"):
        await component.set_up()
