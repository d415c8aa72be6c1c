from __future__ import annotations

import msgspec
import pytest

from voxload.model.plan import Plan, decode_plan, encode_plan


def test_a_plan_survives_the_wire():
    plan = Plan(
        "id", {"name": "x", "load": {"duration": 1.5}, "calls": [{"a": None}]}, "http://x", {"a": "ü"}, ("a",),
        {"t": ("1", "2")}, {"hello.wav": bytes(range(256))},
    )  # fmt: skip
    assert decode_plan(encode_plan(plan)) == plan


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x80", b"\x93\x01\x02\x03"])
def test_other_bytes_are_refused(data):
    with pytest.raises(msgspec.MsgspecError):
        decode_plan(data)


def test_secrets_are_hidden_in_every_form():
    plan = Plan("id", {}, "", {"a": "top/secret", "b": "top/secret/longer", "short": "en", "open": "visible"},
                ("a", "b", "short"))  # fmt: skip
    text = "top/secret, top%2Fsecret, top/secret/longer, en, visible"
    assert plan.redact(text) == "***, ***, ***, en, visible"
    assert Plan("id", {}, "").redact("nothing to hide") == "nothing to hide"
