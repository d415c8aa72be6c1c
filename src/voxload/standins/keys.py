"""Keys of services: they are base64."""

from __future__ import annotations

import base64
import binascii


def check_base64(value: str) -> str:
    """Return a key.

    Raises:
        ValueError: it is not base64.
    """
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a key is base64, such as the service shows it") from None
    return value
