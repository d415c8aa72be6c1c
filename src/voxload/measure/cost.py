"""What a call costs its operator: minutes, characters and tokens times dated prices, which a scenario may override."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import NamedTuple

import msgspec

from voxload.errors import BadInputError, Problem
from voxload.model.cost import CostSettings

CHARACTERS_PER_S = Decimal(15)
"""English speech: 150 words a minute, 6 characters a word with its space."""
INPUT_AUDIO_TOKENS_PER_S = Decimal(10)
OUTPUT_AUDIO_TOKENS_PER_S = Decimal(20)
"""OpenAI's guide to the costs of its realtime models: a token is 100 ms of the caller's audio, 50 ms of the agent's."""

_UNITS = {"minute": Decimal(1), "hour": Decimal(1), "1M characters": Decimal(10**6), "1M tokens": Decimal(10**6)}


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One price in USD for one `unit`, with where it was published and when (a year, a month, or `undated`)."""

    value: Decimal
    unit: str
    source: str
    date: str = ""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    currency: str
    profiles: dict[str, dict[str, Price]]


@cache
def price_table(profile: str = "published") -> dict[str, Price]:
    """Return the prices of a profile by name (see `voxload.model.cost`).

    Raises:
        KeyError: there is no such profile.
    """
    data = (resources.files("voxload.measure") / "data" / "prices.json").read_bytes()
    return msgspec.json.decode(data, type=_Table).profiles[profile]


@dataclass(frozen=True, slots=True)
class CallUsage:
    """What one call used; None where nobody said, then it is estimated.

    `minutes` run from media ready to the end of the call. Characters count spaces too. Tokens are those of the agent's
    own usage fields: text tokens of the chat model, audio tokens of the realtime model.
    """

    minutes: float
    caller_speech_s: float = 0.0
    agent_speech_s: float = 0.0
    turns: int = 1
    """Times that the agent's model was asked."""
    caller_characters: int | None = None
    agent_characters: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    cached_input_tokens: int = 0
    cached_audio_input_tokens: int = 0
    """Which of the input tokens were read from a cache."""


@dataclass(frozen=True, slots=True)
class CallCost:
    """The price of one call in USD: `total` is the sum of `items`."""

    total: float
    items: dict[str, float]
    """By item: `telephony`, `voip`, `stt`, `tts`, `llm_input`, `llm_output`, `realtime_input`, `realtime_output`, and
    where the model reports them `realtime_text_input`, `realtime_text_output`, `realtime_cached`."""
    estimated: frozenset[str]
    """Items whose quantity was estimated, because the agent did not report it."""


class _Quantity(NamedTuple):
    item: str
    price: str
    amount: Decimal
    """In minutes, hours, characters or tokens."""
    estimated: bool = False


class CostModel:
    """Prices calls by the settings of a scenario; sums are exact in decimal, results are floats."""

    def __init__(self, settings: CostSettings) -> None:
        """Look all prices up.

        Raises:
            BadInputError: a price is neither in the table nor in the settings; names every such price.
        """
        self.settings = settings
        table = price_table(settings.profile)
        self.prices: dict[str, Price] = {}
        """The prices in force, by name, for reports."""
        problems = []
        required = settings.charged()
        for name in (*required, *settings.charged_if_known()):
            known = table.get(name)
            if name in settings.prices:
                unit = known.unit if known else "1M tokens"  # only models can be unknown to the table
                self.prices[name] = Price(_decimal(settings.prices[name]), unit, "scenario")
            elif known:
                self.prices[name] = known
            elif name in required:
                problems.append(
                    Problem(f"cost: the price {name!r} is not known", suggestion="state it under cost.prices")
                )
        if problems:
            raise BadInputError(problems)

    def call_cost(self, usage: CallUsage) -> CallCost:
        """Return what a call costs, item by item, and which quantities were estimated."""
        quantities = [*self._line(usage), *self._speech(usage), *self._chat(usage), *self._realtime(usage)]
        amounts: dict[str, Decimal] = {}
        for quantity in quantities:
            amounts[quantity.item] = amounts.get(quantity.item, Decimal(0)) + self._amount(quantity)
        return CallCost(
            total=float(sum(amounts.values(), Decimal(0))),
            items={item: float(amount) for item, amount in amounts.items()},
            estimated=frozenset(quantity.item for quantity in quantities if quantity.estimated),
        )

    def _amount(self, quantity: _Quantity) -> Decimal:
        price = self.prices[quantity.price]
        return price.value * quantity.amount / _UNITS[price.unit]

    def _line(self, usage: CallUsage) -> list[_Quantity]:
        """Telephony and VoIP, charged to the millisecond (as Azure does), not by started minutes."""
        minutes, quantities = _decimal(usage.minutes), []
        if self.settings.telephony != "none":
            quantities.append(_Quantity("telephony", self.settings.telephony, minutes))
        if self.settings.voip_legs:
            quantities.append(_Quantity("voip", "voip_leg", minutes * self.settings.voip_legs))
        return quantities

    def _speech(self, usage: CallUsage) -> list[_Quantity]:
        quantities = []
        if self.settings.stt == "stream":
            quantities.append(_Quantity("stt", "stt", _decimal(usage.minutes) / 60))
        elif self.settings.stt == "speech":
            quantities.append(_Quantity("stt", "stt", _decimal(usage.caller_speech_s) / 3600))
        if self.settings.tts != "none":
            characters, estimated = _agent_characters(usage)
            quantities.append(_Quantity("tts", f"tts_{self.settings.tts}", characters, estimated))
        return quantities

    def chat_tokens(self, usage: CallUsage) -> tuple[float, float]:
        """Return the text tokens that a call is estimated to send to the chat model and to get from it."""
        tokens_in, tokens_out = self._estimated_tokens(usage)
        return float(tokens_in), float(tokens_out)

    def _chat(self, usage: CallUsage) -> list[_Quantity]:
        if not self.settings.llm:
            return []
        tokens_in, tokens_out = self._estimated_tokens(usage)
        told = (usage.input_tokens, usage.output_tokens)
        if usage.audio_input_tokens is not None:
            told = (None, None)  # what is told is the text of a speech-to-speech model
        return [
            _reported("llm_input", f"{self.settings.llm}.input", told[0], tokens_in),
            _reported("llm_output", f"{self.settings.llm}.output", told[1], tokens_out),
        ]

    def _estimated_tokens(self, usage: CallUsage) -> tuple[Decimal, Decimal]:
        size = _decimal(self.settings.characters_per_token)
        said = usage.caller_characters
        caller = (CHARACTERS_PER_S * _decimal(usage.caller_speech_s) if said is None else Decimal(said)) / size
        agent = _agent_characters(usage)[0] / size
        tokens_in = caller + self.settings.prompt_tokens * usage.turns
        if self.settings.history and usage.turns > 1:
            # Turns of equal length: turn n carries the n - 1 before it.
            tokens_in += (caller + agent) * (usage.turns - 1) / 2
        return tokens_in, agent

    def _realtime(self, usage: CallUsage) -> list[_Quantity]:
        """Audio tokens; an estimate counts each second of speech once, not again in later turns, where it is cached.

        What the model reports is charged as it is: the whole conversation again at each turn, text, and cached tokens.
        """
        model = self.settings.realtime
        if not model:
            return []
        heard = INPUT_AUDIO_TOKENS_PER_S * _decimal(usage.caller_speech_s)
        spoken = OUTPUT_AUDIO_TOKENS_PER_S * _decimal(usage.agent_speech_s)
        told, cached = usage.audio_input_tokens, self._cached(f"{model}.cached_audio_input", usage)
        quantities = [
            _reported("realtime_input", f"{model}.audio_input", None if told is None else told - cached, heard),
            _reported("realtime_output", f"{model}.audio_output", usage.audio_output_tokens, spoken),
        ]
        if told is None:
            return quantities
        cached_text = self._cached(f"{model}.cached_text_input", usage)
        further = (
            ("realtime_cached", "cached_audio_input", cached),
            ("realtime_cached", "cached_text_input", cached_text),
            ("realtime_text_input", "text_input", (usage.input_tokens or 0) - cached_text),
            ("realtime_text_output", "text_output", usage.output_tokens or 0),
        )
        for item, kind, tokens in further:
            if tokens and f"{model}.{kind}" in self.prices:
                quantities.append(_Quantity(item, f"{model}.{kind}", Decimal(tokens)))
        return quantities

    def _cached(self, price: str, usage: CallUsage) -> int:
        """Return the cached tokens of a kind, 0 where they have no price of their own."""
        tokens = usage.cached_audio_input_tokens if price.endswith("audio_input") else usage.cached_input_tokens
        return tokens if price in self.prices else 0


def _agent_characters(usage: CallUsage) -> tuple[Decimal, bool]:
    """Return the characters that the agent spoke, and whether they are estimated from how long it spoke."""
    if usage.agent_characters is not None:
        return Decimal(usage.agent_characters), False
    return CHARACTERS_PER_S * _decimal(usage.agent_speech_s), True


def _reported(item: str, price: str, reported: int | None, estimate: Decimal) -> _Quantity:
    if reported is None:
        return _Quantity(item, price, estimate, estimated=True)
    return _Quantity(item, price, Decimal(reported))


def _decimal(value: float) -> Decimal:
    """Return a float as people write it: 0.1 is a tenth."""
    return Decimal(str(value))
