"""Texts with `${variable}` in them: `$$` stands for a dollar sign."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from string import Template


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


def template_names(template: str) -> list[str]:
    """Return the names in a template, in order of first appearance.

    Raises:
        ValueError: a `$` that is neither `$$` nor the start of a name.
    """
    compiled = Template(template)
    if not compiled.is_valid():
        raise ValueError(f"{template!r}: write ${{name}} for a variable and $$ for a dollar sign")
    return compiled.get_identifiers()
