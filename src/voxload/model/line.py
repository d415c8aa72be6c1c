"""What a caller's line does to the frames that it sends: loss, jitter, stalls, muting."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from voxload.model.base import Model, ShortModel
from voxload.model.units import DurationNs, SpanNs


class BurstLoss(Model):
    """Loss in bursts: the Gilbert-Elliott model, a Markov chain of a good and a bad state that steps once a frame.

    E. N. Gilbert, "Capacity of a burst-noise channel", 1960; E. O. Elliott, 1963. In `tc netem loss gemodel` terms:
    p, r, 1-h = bad_loss, 1-k = good_loss.
    """

    p: float = Field(ge=0, le=1, description="Probability of good to bad, a frame.")
    r: float = Field(gt=0, le=1, description="Probability of bad to good, a frame; a bad spell lasts 1/r frames.")
    good_loss: float = Field(0.0, ge=0, le=1, description="Share of frames lost in the good state.")
    bad_loss: float = Field(1.0, ge=0, le=1, description="Share of frames lost in the bad state.")

    @property
    def bad_share(self) -> float:
        """Share of frames in the bad state in the long run: p / (p + r)."""
        return self.p / (self.p + self.r)

    @property
    def mean_loss(self) -> float:
        """Share of frames lost in the long run."""
        return self.bad_share * self.bad_loss + (1 - self.bad_share) * self.good_loss


class Loss(ShortModel):
    """Frames that never leave: exactly one of the forms; a plain number means `random`."""

    short_field: ClassVar[str] = "random"

    random: float | None = Field(None, ge=0, le=1, description="Share of frames lost, each on its own.")
    burst: BurstLoss | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Loss:
        if (self.random is None) == (self.burst is None):
            raise ValueError("give exactly one of random and burst")
        return self

    @property
    def mean_loss(self) -> float:
        """Share of frames lost in the long run."""
        return self.burst.mean_loss if self.burst is not None else self.random or 0.0


class Jitter(ShortModel):
    """A delay added to each frame: an even spread (`5ms..40ms`), or a gamma distribution of this mean and deviation."""

    short_field: ClassVar[str] = "span"

    span_ns: SpanNs | None = Field(None, alias="span", description="Drawn evenly for each frame.")
    mean_ns: DurationNs | None = Field(None, alias="mean", gt=0)
    std_ns: DurationNs | None = Field(None, alias="std", gt=0, description="Standard deviation.")

    @model_validator(mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        return {"span": value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _one_form(self) -> Jitter:
        given = (self.span_ns is not None, self.mean_ns is not None, self.std_ns is not None)
        if given not in {(True, False, False), (False, True, True)}:
            raise ValueError("jitter is a duration, a span such as 5ms..40ms, or both mean and std")
        return self


class LineWindow(Model):
    """A stretch of the call."""

    at_ns: DurationNs = Field(alias="at", description="After the audio channel has opened.")
    for_ns: DurationNs = Field(alias="for", gt=0)


class LineSettings(Model):
    """What a caller's line does to the frames that it sends."""

    loss: Loss | None = Field(None, description="Frames that never leave.")
    jitter: Jitter | None = Field(None, description="Delay added to frames; their order is kept.")
    stall: tuple[LineWindow, ...] = Field((), description="Nothing leaves; what was held back leaves at the end.")
    mute: tuple[LineWindow, ...] = Field((), description="Frames of silence instead of what the caller says.")
