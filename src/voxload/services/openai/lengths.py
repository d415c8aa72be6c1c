"""How long texts are, in tokens: one number, a span, a lognormal distribution, or measured values."""

from __future__ import annotations

from statistics import NormalDist
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from voxload.draws import Z_P95
from voxload.model.base import Model, ShortModel, or_plain

TOKENS_MAX = 1_000_000

Count = Annotated[int, Field(ge=1, le=TOKENS_MAX)]


class LengthLognormal(Model):
    """A lognormal number of tokens, given by two of its percentiles."""

    median: Count
    p95: Count

    @model_validator(mode="after")
    def _ordered(self) -> LengthLognormal:
        if self.median > self.p95:
            raise ValueError("a lognormal length needs median <= p95")
        return self


class Lengths(ShortModel):
    """A number of tokens: exactly one of the forms; `200` and `100..400` mean `span`."""

    short_field: ClassVar[str] = "span"

    span: tuple[Count, Count] | None = Field(
        None, description="200, or 100..400: drawn evenly.", json_schema_extra=or_plain
    )
    lognormal: LengthLognormal | None = None
    empirical: tuple[Count, ...] | None = Field(None, min_length=1, description="Drawn evenly from measured values.")

    @field_validator("span", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        if isinstance(value, str):
            low, dots, high = value.partition("..")
            return [low.strip(), (high if dots else low).strip()]
        return [value, value] if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _exactly_one(self) -> Lengths:
        if sum(form is not None for form in (self.span, self.lognormal, self.empirical)) != 1:
            raise ValueError("give exactly one of span, lognormal, empirical")
        if self.span is not None and self.span[0] > self.span[1]:
            raise ValueError(f"{self.span[0]}..{self.span[1]}: the first number must not be larger than the second")
        return self

    def at(self, share: float) -> int:
        """Return the length below which a share of all lengths (0 to 1, both excluded) lies.

        ln of a lognormal length is normal with mean ln(median) and deviation ln(p95 / median) / z(0.95).
        """
        if self.span is not None:
            low, high = self.span
            return low + int(share * (high - low + 1))
        if self.lognormal is not None:
            spread = self.lognormal.p95 / self.lognormal.median
            drawn = round(self.lognormal.median * float(spread ** (NormalDist().inv_cdf(share) / Z_P95)))
            return min(max(drawn, 1), TOKENS_MAX)
        assert self.empirical is not None
        ordered = sorted(self.empirical)
        return ordered[int(share * len(ordered))]
