"""What is said to the service and what it is to say, prepared once a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from voxload.audio.corpus import Utterance, load_corpus
from voxload.audio.frames import cut_frames, silence_frame
from voxload.clock import NS_PER_MS
from voxload.measure.accuracy import word_error_rate
from voxload.services.speech.files import read_recording, read_texts
from voxload.services.speech.options import RecognitionOptions, SynthesisOptions

MESSAGE_MS = 100
MESSAGE_NS = MESSAGE_MS * NS_PER_MS
"""Audio in one message, as the SDK sends it."""


@dataclass(frozen=True, slots=True)
class Said:
    """One utterance of a stream: its words, and where its speech lies, in ns from the stream's first sample."""

    text: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """The audio of a stream as 16-bit PCM in messages of 100 ms, of which only the last may be shorter."""

    messages: tuple[bytes, ...]
    silence: bytes
    """A message of silence, for as long as the line stays open afterwards."""
    said: tuple[Said, ...]
    duration_ns: int
    """Of all messages."""

    @property
    def text(self) -> str:
        """All that is said."""
        return " ".join(each.text for each in self.said)

    def due_ns(self, index: int) -> int:
        """Return when message `index` is complete, from the stream's first sample; those past the end are silence."""
        end_ns = (index + 1) * MESSAGE_NS
        return self.duration_ns if index == len(self.messages) - 1 else end_ns


class Material:
    """Streams and texts by the number of the unit of work; the same number always gets the same.

    Raises:
        BadInputError: a recording or a file of texts cannot be used.
    """

    def __init__(
        self, stt: RecognitionOptions, tts: SynthesisOptions, languages: tuple[str, ...], folder: Path = Path()
    ) -> None:
        self._stt, self._tts, self._languages = stt, tts, languages
        self._scripts: dict[int, Script] = {}
        corpus = load_corpus()
        self._utterances: tuple[Utterance, ...] = corpus.callers
        if stt.audio:
            self._utterances = tuple(read_recording(folder / each.file, each.text) for each in stt.audio)
        self._texts = tts.texts or tuple(utterance.text for utterance in corpus.agents)
        if tts.text_file:
            self._texts = read_texts(folder / tts.text_file)

    def language(self, index: int) -> str:
        """Return the language of a stream."""
        return self._languages[index % len(self._languages)]

    def script(self, index: int) -> Script:
        """Return what a stream says."""
        count = len(self._utterances)
        first = index * self._stt.utterances % count
        found = self._scripts.get(first)
        if found is None:
            chosen = [self._utterances[(first + step) % count] for step in range(self._stt.utterances)]
            found = self._scripts[first] = _script(chosen, self._stt)
        return found

    def prepare(self) -> int:
        """Cut all audio and load what counts words, so that neither is done while time is kept.

        Returns how long the longest stream is, in ns.
        """
        word_error_rate("one", "two")
        return max(self.script(index).duration_ns for index in range(len(self._utterances)))

    def text(self, index: int) -> str:
        """Return what the service is to say in a request, as text or SSML."""
        return self._texts[index % len(self._texts)]

    def ssml(self, index: int) -> str:
        """Return the same as SSML."""
        text = self.text(index)
        if text.startswith("<speak"):
            return text
        voice = self._tts.voice
        language = "-".join(voice.split("-")[:2])
        return (
            f"<speak version='1.0' xmlns='http://www.w3.org/2001/10/synthesis' xml:lang='{language}'>"
            f"<voice name='{voice}'>{escape(text)}</voice></speak>"
        )


def _script(utterances: list[Utterance], options: RecognitionOptions) -> Script:
    rate_hz = options.sample_rate_hz
    silence = silence_frame(rate_hz, "pcm16", MESSAGE_MS)
    pauses = -(-options.pause_ns // MESSAGE_NS)
    messages: list[bytes] = []
    said: list[Said] = []
    for utterance in utterances:
        if messages:
            messages += [silence] * pauses
        frames, offset_ns = cut_frames(utterance, rate_hz, "pcm16", MESSAGE_MS), len(messages) * MESSAGE_NS
        messages += frames.frames
        said.append(Said(utterance.text, offset_ns + frames.active_start_ns, offset_ns + frames.active_end_ns))
    duration_ns = len(messages) * MESSAGE_NS
    if options.finish == "close":
        end_bytes = 2 * (said[-1].end_ns * rate_hz // 1_000_000_000)
        whole, rest = divmod(end_bytes, len(silence))
        messages = [*messages[:whole], *([messages[whole][:rest]] if rest else [])]
        duration_ns = end_bytes * 500_000_000 // rate_hz
    return Script(tuple(messages), silence, tuple(said), duration_ns)
