"""What makes two runs comparable: a hash of each part of the scenario that decides what the calls are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pydantic import BaseModel

PARTS = ("component", "dialect", "load", "calls", "personas", "side_traffic", "timeouts", "measurement")
"""Left out: name and texts, gates, prices, recordings, the seed, and the agent under test (target, twin, headers)."""


def fingerprint(settings: BaseModel) -> dict[str, str]:
    """Return a short hash of each part of a scenario (or of the settings of a component test, which have fewer).

    Defaults are left out, so that an option that a later version adds does not change the hash of older files.
    """
    parts = [part for part in PARTS if part in type(settings).model_fields]
    written = settings.model_dump(mode="json", include=set(parts), exclude_defaults=True)
    return {
        part: hashlib.sha256(json.dumps(written.get(part), sort_keys=True).encode()).hexdigest()[:10] for part in parts
    }


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the parts in which two scenarios differ; parts that only one of them knows are not compared."""
    return [part for part in PARTS if part in one and part in other and one[part] != other[part]]
