"""The base of all models that users write: strict names, frozen values, short forms."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema


class Model(BaseModel):
    """A part of a user's file: unknown names are errors, values cannot be changed."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        allow_inf_nan=False,
        defer_build=True,  # else each part is built by itself, and once more in all that hold it
    )


class ShortModel(Model):
    """A model that may be written as one plain value, which then stands for the field `short_field`."""

    short_field: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        if value is None:
            return {}
        return {cls.short_field: value} if isinstance(value, str | int | float) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Allow the short form in the published schema too."""
        full = handler.resolve_ref_schema(handler(core_schema))
        return {"anyOf": [{"type": ["string", "number", "null"]}, full]}


def or_one(schema: dict[str, Any]) -> None:
    """Allow in a published schema that one item stands for a list of one (`json_schema_extra` of a field)."""
    kept = {name: schema.pop(name) for name in ("type", "items", "minItems", "maxItems") if name in schema}
    schema["anyOf"] = [kept.get("items", {}), kept]


def or_plain(schema: dict[str, Any]) -> None:
    """Allow in a published schema that a text or a number stands for the whole, likewise."""
    kept = {name: schema.pop(name) for name in list(schema) if name not in {"title", "description", "default"}}
    schema["anyOf"] = [{"type": ["string", "number"]}, kept]
