"""Who calls: the voice, surroundings and manners of a caller, and what its line does to the audio."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from voxload.model.base import Model, ShortModel
from voxload.model.line import LineSettings
from voxload.model.units import DurationNs, SpanNs

Voice = Literal["slt", "rms", "any"]
"""A voice of the speech corpus (slt: female, rms: male), or whichever is drawn."""

NoiseKind = Literal["white", "pink", "babble"]
"""white: even over the band. pink: -3 dB an octave, as traffic and wind. babble: other people talking."""

Codec = Literal["none", "g711"]
"""What the caller's audio goes through before it is sent; g711: 8 kHz µ-law, as in the telephone network."""

ReadyName = Literal["calm", "impatient", "elderly", "noisy_street", "talkative"]
"""The personas that come with voxload."""


class Noise(ShortModel):
    """Noise around the caller, in its speech and between."""

    short_field: ClassVar[str] = "kind"

    kind: NoiseKind = Field(description="white, pink (as traffic) or babble (other people talking).")
    snr_db: float = Field(20.0, ge=-20, le=60, description="Level of the caller's active speech over the noise.")


def _none_word(value: Any) -> Any:
    return None if value == "none" else value


NoiseOrNone = Annotated[Noise | None, BeforeValidator(_none_word)]
"""Noise, or the word `none`."""


class PersonaTraits(ShortModel):
    """All that describes a caller, but its name; the defaults are a calm caller in a quiet room."""

    voice: Voice = Field("any", description="Voice of the corpus; WAV files are spoken as they are.")
    speaking_rate: float = Field(1.0, ge=0.5, le=2, description="Speed of the speech, its pitch kept.")
    level_db: float = Field(0.0, ge=-30, le=12, description="Louder or quieter than recorded (-20 dBFS).")
    noise: NoiseOrNone = Field(None, description="Noise around the caller, or none.")
    codec: Codec = Field("none", description="g711: through 8 kHz µ-law and back before it is sent.")
    patience_ns: DurationNs | None = Field(
        None, alias="patience", gt=0, description="Dead air after which the caller hangs up; for ever by default."
    )
    interrupts: float = Field(0.0, ge=0, le=1, description="Probability of speaking over a turn of the agent.")
    interrupt_after_ns: SpanNs = Field(
        (500_000_000, 2_000_000_000), alias="interrupt_after", description="Into the agent's turn."
    )
    backchannel: float = Field(0.0, ge=0, le=1, description="Probability of an mm-hm during a turn of the agent.")
    think_factor: float = Field(1.0, ge=0, le=100, description="Multiplies the script's think times.")
    line: LineSettings | None = Field(None, description="What the caller's line does to its audio.")
    weight: float = Field(1.0, gt=0, description="Share of the calls, relative to the other weights.")


class Persona(PersonaTraits):
    """A caller with a name."""

    short_field: ClassVar[str] = "name"

    name: str = Field(min_length=1)

    @property
    def sound(self) -> tuple[float, float, Noise | None, Codec]:
        """What decides how an utterance sounds: personas with the same value share their audio."""
        return (self.speaking_rate, self.level_db, self.noise, self.codec)


READY_PERSONAS: dict[str, Persona] = {
    name: Persona.model_validate({"name": name, **traits})
    for name, traits in {
        "calm": {},
        "impatient": {
            "speaking_rate": 1.2,
            "patience": "4s",
            "interrupts": 0.4,
            "interrupt_after": "400ms..1500ms",
            "think_factor": 0.5,
        },
        "elderly": {"speaking_rate": 0.8, "level_db": -8, "patience": "20s", "think_factor": 2},
        "noisy_street": {"noise": {"kind": "pink", "snr_db": 15}, "codec": "g711", "level_db": 2, "patience": "10s"},
        "talkative": {
            "speaking_rate": 1.15,
            "backchannel": 0.6,
            "interrupts": 0.1,
            "interrupt_after": "1s..3s",
            "think_factor": 0.7,
        },
    }.items()
}
"""The personas that come with voxload, by name."""


class PersonaMatrix(Model):
    """Every combination of the listed traits, each with the same share; a trait that is not listed stays as it is."""

    voice: tuple[Voice, ...] = ()
    noise: tuple[NoiseOrNone, ...] = ()
    codec: tuple[Codec, ...] = ()

    @model_validator(mode="after")
    def _something_varies(self) -> PersonaMatrix:
        if not (self.voice or self.noise or self.codec):
            raise ValueError("a matrix needs a list of voice, noise or codec")
        return self


class PersonaEntry(PersonaTraits):
    """One entry of a scenario's `personas:`: a ready persona, one with changes, one of its own, or a matrix.

    `use` names the ready persona to start from (calm by default); every other key that is written replaces its value.
    """

    short_field: ClassVar[str] = "use"

    use: ReadyName | None = Field(None, description="The ready persona to start from.")
    name: str | None = Field(None, pattern=r"^[A-Za-z_][\w.-]*$", description="Name in reports; default: as use.")
    matrix: PersonaMatrix | None = Field(None, description="Expand to all combinations of these traits.")

    @model_validator(mode="after")
    def _has_a_name(self) -> PersonaEntry:
        if self.use is None and self.name is None and self.matrix is None:
            raise ValueError("a persona needs use (a ready persona) or a name of its own")
        return self


def _resolve_entry(entry: PersonaEntry) -> Iterator[Persona]:
    changes = {field: getattr(entry, field) for field in entry.model_fields_set - {"use", "name", "matrix"}}
    prefix = entry.name or entry.use or ""
    persona = READY_PERSONAS[entry.use or "calm"].model_copy(update={**changes, "name": prefix})
    if entry.matrix is None:
        yield persona
    else:
        yield from _expand(entry.matrix, persona, prefix)


def _expand(matrix: PersonaMatrix, base: Persona, prefix: str) -> Iterator[Persona]:
    """Yield the product; the weight of `base` is divided among its members."""
    voices, noises, codecs = matrix.voice or (base.voice,), matrix.noise or (base.noise,), matrix.codec or (base.codec,)
    weight = base.weight / (len(voices) * len(noises) * len(codecs))
    for voice, noise, codec in itertools.product(voices, noises, codecs):
        parts = [
            prefix,
            voice if matrix.voice else "",
            f"{noise.kind}{noise.snr_db:g}" if matrix.noise and noise else "",
            codec if matrix.codec and codec != "none" else "",
        ]
        name = "-".join(part for part in parts if part) or "plain"
        yield base.model_copy(update={"name": name, "voice": voice, "noise": noise, "codec": codec, "weight": weight})


def resolve_personas(mix: Sequence[PersonaEntry] | PersonaMatrix) -> tuple[Persona, ...]:
    """Return the personas of a scenario in its order; the calm one when it names none.

    Raises:
        ValueError: two have the same name.
    """
    if isinstance(mix, PersonaMatrix):
        personas = tuple(_expand(mix, READY_PERSONAS["calm"], ""))
    else:
        personas = tuple(itertools.chain.from_iterable(map(_resolve_entry, mix))) or (READY_PERSONAS["calm"],)
    for name, count in Counter(persona.name for persona in personas).items():
        if count > 1:
            raise ValueError(f"two personas are named {name!r}; names must differ")
    return personas


def _resolvable(mix: tuple[PersonaEntry, ...] | PersonaMatrix) -> tuple[PersonaEntry, ...] | PersonaMatrix:
    resolve_personas(mix)
    return mix


def _form(mix: Any) -> str:
    return "matrix" if isinstance(mix, dict | PersonaMatrix) else "list"


PersonaMix = Annotated[
    Annotated[tuple[PersonaEntry, ...], Tag("list")] | Annotated[PersonaMatrix, Tag("matrix")],
    Discriminator(_form),
    AfterValidator(_resolvable),
]
"""A scenario's `personas:`: a list of entries, or one matrix; what `resolve_personas` takes."""
