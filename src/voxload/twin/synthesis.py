"""Replies that are not in the corpus, spoken by flite where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from voxload.audio.corpus import utterance_from_wav
from voxload.dialects.base import Dialect
from voxload.errors import BadInputError
from voxload.twin.replies import prepare_reply
from voxload.twin.speaking import PreparedReply

VOICE = "awb"
"""The voice of the corpus' agent."""
TIMEOUT_S = 10.0


def synthesise(text: str, dialect: Dialect, seconds_max: float | None = None) -> PreparedReply | None:
    """Return a text as a reply in the agent's voice, or None where flite is missing or fails. Takes a while: blocks."""
    flite = shutil.which("flite")
    if flite is None:
        return None
    with tempfile.TemporaryDirectory(prefix="voxload-") as folder:
        wav = Path(folder) / "reply.wav"
        try:
            subprocess.run(  # noqa: S603  # no shell, and the text is one argument
                [flite, "-voice", VOICE, "-t", text, "-o", str(wav)],
                check=True,
                timeout=TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
            utterance = utterance_from_wav(wav.read_bytes(), "flite", text)
        except (OSError, subprocess.SubprocessError, BadInputError):
            return None
    return prepare_reply(utterance, dialect, seconds_max)
