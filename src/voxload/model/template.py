"""Texts with `${variable}` in them: `$$` stands for a dollar sign."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from string import Template
from typing import Any


@lru_cache(maxsize=1024)
def _compiled(template: str) -> Template | None:
    return Template(template) if "$" in template else None


def expand(template: str, values: Mapping[str, str]) -> str:
    """Return `template` with each `${name}` replaced by its value.

    Raises:
        KeyError: a name without a value.
        ValueError: a `$` that is neither `$$` nor the start of a name.
    """
    compiled = _compiled(template)
    return template if compiled is None else compiled.substitute(values)


def expand_known(template: str, values: Mapping[str, str]) -> str:
    """Return `template` with its values filled in as far as there are any; the rest stands as it is written."""
    try:
        return expand(template, values)
    except (KeyError, ValueError):
        return template


def fill_options(options: Mapping[str, Any], constants: Mapping[str, str]) -> dict[str, Any]:
    """Return a dialect's options for the agent's side, which must know secrets to check what is signed with them."""
    return {
        name: expand_known(value, constants) if isinstance(value, str) else value for name, value in options.items()
    }


def template_names(template: str) -> list[str]:
    """Return the names in a template, in order of first appearance.

    Raises:
        ValueError: a `$` that is neither `$$` nor the start of a name.
    """
    compiled = Template(template)
    if not compiled.is_valid():
        raise ValueError(f"{template!r}: write ${{name}} for a variable and $$ for a dollar sign")
    return compiled.get_identifiers()
