"""What a call is charged for: the items of `cost:` in a scenario."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from voxload.model.base import Model

Telephony = Literal["none", "pstn_inbound", "pstn_outbound", "toll_free_inbound"]

FIXED_PRICES = (
    "pstn_inbound",
    "pstn_outbound",
    "toll_free_inbound",
    "voip_leg",
    "stt",
    "tts_neural",
    "tts_neural_hd",
)
"""Prices that every profile has. A chat model M adds `M.input` and `M.output`, a realtime model `M.audio_input` and
`M.audio_output`, and where there are such prices those of `FURTHER_REALTIME`."""
FURTHER_REALTIME = ("text_input", "text_output", "cached_text_input", "cached_audio_input")
"""What a realtime model also reports. Where there is no such price, text is not charged, and cached tokens in full."""


class CostSettings(Model):
    """The services that a call uses and their prices; at least one item must be charged."""

    profile: Literal["published"] = Field("published", description="Price table: list prices with source and date.")
    telephony: Telephony = Field("none", description="Line to the caller, a minute.")
    voip_legs: int = Field(0, ge=0, description="VoIP participants charged a minute; the agent's media leg is one.")
    stt: Literal["none", "stream", "speech"] = Field(
        "none",
        description="Speech to text, an hour: stream = the whole call goes to it, speech = only what the caller says.",
    )
    tts: Literal["none", "neural", "neural_hd"] = Field("none", description="Text to speech, 1M characters.")
    llm: str = Field("", description="Chat model, 1M tokens; its prices are in the table or under prices.")
    realtime: str = Field("", description="Speech-to-speech model, 1M audio tokens.")
    prompt_tokens: int = Field(0, ge=0, description="System prompt, sent with every turn; for estimated tokens only.")
    history: bool = Field(
        True, description="Every turn sends the conversation so far to the chat model; for estimated tokens only."
    )
    characters_per_token: float = Field(4.0, gt=0, description="For estimated tokens only.")
    prices: dict[str, float] = Field({}, description="Your own prices in USD, by name, over those of the table.")

    def charged(self) -> tuple[str, ...]:
        """Return the names of the prices that a call is charged by."""
        names = [
            *([] if self.telephony == "none" else [self.telephony]),
            *(["voip_leg"] if self.voip_legs else []),
            *([] if self.stt == "none" else ["stt"]),
            *([] if self.tts == "none" else [f"tts_{self.tts}"]),
            *([f"{self.llm}.input", f"{self.llm}.output"] if self.llm else []),
            *([f"{self.realtime}.audio_input", f"{self.realtime}.audio_output"] if self.realtime else []),
        ]
        return tuple(names)

    def charged_if_known(self) -> tuple[str, ...]:
        """Return the names of the prices that a call is charged by where there are any."""
        return tuple(f"{self.realtime}.{kind}" for kind in FURTHER_REALTIME) if self.realtime else ()

    @model_validator(mode="after")
    def _prices_make_sense(self) -> CostSettings:
        charged = self.charged()
        if not charged:
            raise ValueError("nothing is charged; set one of telephony, voip_legs, stt, tts, llm, realtime")
        known = sorted({*charged, *self.charged_if_known(), *FIXED_PRICES})
        for name, price in self.prices.items():
            if name not in known:
                raise ValueError(f"no price is called {name!r}; the prices here are {', '.join(known)}")
            if price < 0:
                raise ValueError(f"the price of {name} must not be negative")
        return self
