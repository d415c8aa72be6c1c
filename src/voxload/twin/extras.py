"""What a real agent needs besides voxload itself: the extra `real`, with a clear word when it is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from voxload.errors import BadInputError, Problem

REAL_MODULES = ("webrtcvad", "pocketsphinx", "rapidfuzz")


def require(module: str) -> Any:
    """Return a module of the extra `real`.

    Raises:
        BadInputError: it is not installed; says what to run.
    """
    try:
        return import_module(module)
    except ImportError as error:
        suggestion = "pip install 'voxload[real]'"
        raise BadInputError(
            [Problem(f"an agent with mode: real needs {module}: {error}", suggestion=suggestion)]
        ) from None
