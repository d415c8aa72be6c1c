"""What a user's files hold: recordings that are said to the service, texts that it is to say."""

from __future__ import annotations

from pathlib import Path

from voxload.audio.corpus import Utterance, utterance_from_wav
from voxload.errors import BadInputError, Problem


def read_recording(path: Path, text: str) -> Utterance:
    """Return a recording with its words.

    Raises:
        BadInputError: it cannot be read, is no 16-bit PCM WAV, or holds no speech.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInputError([Problem(f"cannot be read: {error.strerror or error}", str(path))]) from None
    return utterance_from_wav(data, str(path), text)


def read_texts(path: Path) -> tuple[str, ...]:
    """Return the lines of a text file that are not empty.

    Raises:
        BadInputError: it cannot be read, or holds no text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInputError([Problem(f"cannot be read: {reason}", str(path))]) from None
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise BadInputError([Problem("holds no text", str(path))])
    return lines
