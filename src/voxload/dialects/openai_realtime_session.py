"""The session object of OpenAI's Realtime API: how the GA and the beta version write formats and turn detection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

AUDIO_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu"}
"""Names of the beta version, and those of the GA version."""


def build_session(
    *,
    beta: bool,
    form: Literal["pcm16", "g711_ulaw"],
    turn_detection: Literal["server_vad", "semantic_vad", "none"],
    silence_ms: int = 500,
    voice: str = "",
    instructions: str = "",
    transcription: str = "",
) -> dict[str, Any]:
    """Return a session in either version; what is empty is left out."""
    detection: dict[str, Any] | None = None if turn_detection == "none" else {"type": turn_detection}
    if detection is not None and turn_detection == "server_vad":
        detection["silence_duration_ms"] = silence_ms
    written = {"model": transcription} if transcription else None
    if beta:
        session: dict[str, Any] = {
            "modalities": ["audio", "text"],
            "input_audio_format": form,
            "output_audio_format": form,
            "turn_detection": detection,
        }
        if written:
            session["input_audio_transcription"] = written
        if voice:
            session["voice"] = voice
    else:
        hears: dict[str, Any] = {"format": _format(form), "turn_detection": detection}
        says: dict[str, Any] = {"format": _format(form)}
        if written:
            hears["transcription"] = written
        if voice:
            says["voice"] = voice
        session = {"type": "realtime", "output_modalities": ["audio"], "audio": {"input": hears, "output": says}}
    if instructions:
        session["instructions"] = instructions
    return session


def _format(form: str) -> dict[str, Any]:
    return {"type": "audio/pcm", "rate": 24_000} if form == "pcm16" else {"type": AUDIO_FORMATS[form]}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the fields of `over`, objects field by field."""
    found = dict(base)
    for name, value in over.items():
        below = found.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            value = merged(below, value)  # noqa: PLW2901
        found[name] = value
    return found


def spoken_format(session: Mapping[str, Any]) -> set[str]:
    """Return the audio formats that a session of either version names, by their GA names."""
    audio = session.get("audio")
    named: list[Any] = [session.get("input_audio_format"), session.get("output_audio_format")]
    if isinstance(audio, Mapping):
        sides = [audio.get("input"), audio.get("output")]
        formats = [side.get("format") for side in sides if isinstance(side, Mapping)]
        named += [form.get("type") for form in formats if isinstance(form, Mapping)]
        rates = [form.get("rate") for form in formats if isinstance(form, Mapping)]
        named += [f"audio/pcm at {rate} Hz" for rate in rates if rate not in {None, 24_000, 8_000}]
    return {AUDIO_FORMATS.get(name, name) for name in named if isinstance(name, str)}


def names_turn_detection(session: Mapping[str, Any]) -> bool:
    """Return whether a session says anything of turn detection, even that there is none."""
    return any("turn_detection" in place for place in (session, _hearing(session)))


def turn_detection(session: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how the server finds the end of an utterance; None where the client tells it."""
    for place in (session, _hearing(session)):
        found = place.get("turn_detection")
        if isinstance(found, Mapping):
            return found
    return None


def transcribes(session: Mapping[str, Any]) -> bool:
    """Return whether a session writes down what the caller says."""
    return bool(session.get("input_audio_transcription") or _hearing(session).get("transcription"))


def _hearing(session: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a GA session that is about the caller's audio."""
    audio = session.get("audio")
    hears = audio.get("input") if isinstance(audio, Mapping) else None
    return hears if isinstance(hears, Mapping) else {}
