"""The component tests by name; each is imported when it is used, so that none waits for another's libraries."""

from __future__ import annotations

from importlib import import_module

from voxload.services.base import AnyComponent

COMPONENTS = {
    "acs": "voxload.services.acs.component:AcsComponent",
    "blob": "voxload.services.blob.component:BlobComponent",
    "eventgrid": "voxload.services.eventgrid.component:EventGridComponent",
    "http": "voxload.services.http.component:HttpComponent",
    "openai": "voxload.services.openai.component:OpenaiComponent",
    "redis": "voxload.services.redis.component:RedisComponent",
    "speech": "voxload.services.speech.component:SpeechComponent",
}
"""Where each component lives."""


def component_type(kind: str) -> type[AnyComponent]:
    """Return the class of a component by its name in `COMPONENTS`."""
    module, name = COMPONENTS[kind].split(":")
    found = getattr(import_module(module), name)
    assert isinstance(found, type)
    assert issubclass(found, AnyComponent.__origin__)  # type: ignore[attr-defined]
    return found
