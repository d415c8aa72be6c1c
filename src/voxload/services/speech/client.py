"""What both clients of the Speech service have in common: their face, what they count, how they log in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

from voxload.clock import NS_PER_S
from voxload.measure.extra import require
from voxload.services.base import ComponentRun, Operation
from voxload.services.speech.material import Script
from voxload.services.speech.options import Address, SpeechOptions
from voxload.services.speech.results import Heard, Spoken
from voxload.speech_protocol import KEY_HEADER
from voxload.wheel import Wheel

STT, TTS = "stt", "tts"
ENTRA_SCOPE = "https://cognitiveservices.azure.com/.default"
_EARLY_S = 300
"""A token is renewed so long before it ends."""


class Counts(Counter[str]):
    """throttled, retries, turns (begun anew within a stream); `up` and `most_up` are streams that are connected."""

    def __init__(self) -> None:
        super().__init__()
        self.back_off_ns = 0
        self.up = self.most_up = 0

    def change_up(self, by: int) -> None:
        """Note that a stream was connected, or is over."""
        self.up += by
        self.most_up = max(self.most_up, self.up)


class SpeechClient(ABC):
    """Recognises streams and synthesises texts; every failure is an `OperationFailedError`."""

    def __init__(self, address: Address, options: SpeechOptions, run: ComponentRun, wheel: Wheel) -> None:
        self.address, self.options, self.run, self.wheel = address, options, run, wheel
        self.counts = Counts()

    @abstractmethod
    async def recognise(self, operation: Operation, script: Script, language: str, heard: Heard) -> None:
        """Say a script in real time and note in `heard` what comes back, until the service has ended the stream."""

    @abstractmethod
    async def synthesise(self, operation: Operation, ssml: str) -> Spoken:
        """Have a text said."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    @abstractmethod
    def name(self) -> str:
        """Return which client this is, for reports."""


class Credentials:
    """How we prove who we are: the header of a handshake."""

    def __init__(self, key: str, token: str, credential: Any, unix_ns: Any) -> None:
        self._key, self._token, self._credential, self._unix_ns = key, token, credential, unix_ns
        self._expires_s = 0.0

    async def headers(self) -> dict[str, str]:
        """Return the header, with a token that is still good."""
        if self._credential is not None and self._unix_ns() / NS_PER_S > self._expires_s - _EARLY_S:
            found = await self._credential.get_token(ENTRA_SCOPE)
            self._token, self._expires_s = found.token, found.expires_on
        if self._token:
            return {"Authorization": f"Bearer {self._token}"}
        return {KEY_HEADER: self._key} if self._key else {}


def entra_credential(*, asynchronous: bool) -> Any:
    """Return the credential of the environment.

    Raises:
        BadInputError: azure-identity is not installed.
    """
    module = "azure.identity.aio" if asynchronous else "azure.identity"
    return require(module, "speech").DefaultAzureCredential()
