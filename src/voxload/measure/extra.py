"""Optional dependencies: found when they are needed, with a clear word when they are missing."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from voxload.errors import BadInputError, Problem


def require(module: str, extra: str) -> Any:
    """Return a module of an optional dependency.

    Raises:
        BadInputError: the module, or one that it needs, is not installed; says which extra brings it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        suggestion = f"pip install 'voxload[{extra}]'"
        raise BadInputError([Problem(f"{module} cannot be imported: {error}", suggestion=suggestion)]) from None


def require_installed(module: str, extra: str) -> None:
    """See that an optional dependency is there, without importing it (Locust patches the process that imports it).

    Raises:
        BadInputError: it is not installed; says which extra brings it.
    """
    if find_spec(module) is None:
        raise BadInputError([Problem(f"{module} is not installed", suggestion=f"pip install 'voxload[{extra}]'")])


def optional(module: str) -> Any | None:
    """Return a module of an optional dependency, or None when it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        return None
