"""What a twin in a process of its own is told; apart from the server, whose libraries its parent does without."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from voxload.model.base import Model
from voxload.model.twin import Port, TwinSettings


class TwinJob(Model):
    """All that a twin in a process of its own needs to know."""

    settings: TwinSettings = TwinSettings()
    dialect: str = "rtmed"
    options: dict[str, Any] = Field(default_factory=dict)
    host: str = "127.0.0.1"
    port: Port = 0
    certificates: str = ""
    """Folder of certificates with which it speaks https and wss; empty: http and ws."""
    server_name: str = ""
    """A further name in the certificate."""


def encode_job(job: TwinJob) -> str:
    """Return the job as one line of JSON, which `decode_job` reads back to an equal one."""
    return json.dumps(_plain(job))


def decode_job(line: str) -> TwinJob:
    """Return the job that `encode_job` wrote.

    Raises:
        pydantic.ValidationError: it is not one.
    """
    return TwinJob.model_validate_json(line)


def _plain(model: BaseModel) -> dict[str, Any]:
    """Return what was set in a model, with durations as text: a bare number in a user's file means seconds."""
    found: dict[str, Any] = {}
    for name in model.model_fields_set:
        value = getattr(model, name)
        if value is None:
            continue
        if name.endswith("_ns"):
            found[name] = _duration(value) if isinstance(value, int) else [_duration(item) for item in value]
        else:
            found[name] = _plain_value(value)
    return found


def _plain_value(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _plain(value)
    if isinstance(value, tuple | list):
        return [_plain_value(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain_value(item) for key, item in value.items()}
    return value


def _duration(duration_ns: int) -> str:
    return f"{duration_ns // 1000}.{duration_ns % 1000:03d}us"
