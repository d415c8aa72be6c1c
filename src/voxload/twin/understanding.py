"""What the modelled agent makes of an utterance: it knows the corpus by its very samples, and errs as often as told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from voxload.draws import uniform
from voxload.twin.exchange import Exchange
from voxload.wording import misheard

if TYPE_CHECKING:
    from voxload.twin.desk import Desk
    from voxload.twin.faults import Faults


def drawn_exchange(desk: Desk, call_id: str, turn: int) -> Exchange:
    """Return an exchange for what the agent says of its own accord; the same for the same call and turn."""
    exchanges = desk.repertoire.exchanges
    return exchanges[int(uniform(desk.settings.seed, call_id, turn, "exchange") * len(exchanges))]


def understand(desk: Desk, faults: Faults, turn: int, fingerprint: bytes) -> Exchange:
    """Return what the agent understands of an utterance.

    `fingerprint` is the utterance's last frame with an active sample (`Hearing.fingerprint`). An utterance of the
    corpus that arrives untouched is known by it. Of any other (other audio, noise, another packet size) the twin says
    nothing that could be counted right or wrong: no text, no intent, and a reply that fits anything. Of what it knows,
    intent errors change intent and reply, and word errors change the text.
    """
    exchange = desk.repertoire.known.get(fingerprint)
    if exchange is None:
        return Exchange("", "", desk.repertoire.generic)
    rates = desk.settings.faults
    if rates.intent_error_rate:
        others = [other for other in desk.repertoire.exchanges if other.intent != exchange.intent]
        if others and faults.strikes("intent_error", rates.intent_error_rate, turn):
            other = faults.random("other_intent", turn).choice(others)
            exchange = replace(exchange, intent=other.intent, reply=other.reply)
    if rates.word_error_rate:
        heard = misheard(exchange.heard, rates.word_error_rate, faults.random("word_error", turn))
        if heard != exchange.heard:
            faults.note("word_error")
            exchange = replace(exchange, heard=heard)
    return exchange
