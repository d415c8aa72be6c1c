"""Who takes part in a call: raw ids (`4:+15550100`, `8:acs:…`) and the objects that the API writes for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def raw_id_of_number(text: str) -> str:
    """Return the raw id for a telephone number; a raw id stays what it is."""
    return text if ":" in text else f"4:{text}"


def number_of(raw_id: str) -> str:
    """Return a raw id as people read it: the telephone number, where it is one."""
    return raw_id.removeprefix("4:")


def identifier(raw_id: str) -> dict[str, Any]:
    """Return the API's object for a raw id."""
    body: dict[str, Any] = {"rawId": raw_id}
    if raw_id.startswith("4:"):
        return {"kind": "phoneNumber", **body, "phoneNumber": {"value": raw_id[2:]}}
    if raw_id.startswith("8:orgid:"):
        user = {"userId": raw_id[len("8:orgid:") :], "isAnonymous": False, "cloud": "public"}
        return {"kind": "microsoftTeamsUser", **body, "microsoftTeamsUser": user}
    if raw_id.startswith("28:orgid:"):
        app = {"appId": raw_id[len("28:orgid:") :], "cloud": "public"}
        return {"kind": "microsoftTeamsApp", **body, "microsoftTeamsApp": app}
    if raw_id.startswith("8:"):
        return {"kind": "communicationUser", **body, "communicationUser": {"id": raw_id}}
    return {"kind": "unknown", **body}


def raw_id_of(body: Mapping[str, Any]) -> str:
    """Return the raw id of an object of the API; empty when it names nobody."""
    named = body.get("rawId")
    if isinstance(named, str) and named:
        return named
    for part, field, prefix in (
        ("phoneNumber", "value", "4:"),
        ("communicationUser", "id", ""),
        ("microsoftTeamsUser", "userId", "8:orgid:"),
        ("microsoftTeamsApp", "appId", "28:orgid:"),
    ):
        nested = body.get(part)
        if isinstance(nested, dict) and isinstance(nested.get(field), str):
            return f"{prefix}{nested[field]}"
    return ""
