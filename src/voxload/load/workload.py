"""What each call is: its kind, its caller's values and its random numbers, all from the seed and the call's index."""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator

import msgspec

from voxload.audio.corpus import Utterance, load_corpus, utterance_from_wav
from voxload.load.arrivals import Arrival, arrivals, slice_arrivals
from voxload.model.load import ConcurrencyLoad
from voxload.model.persona import Persona, resolve_personas
from voxload.model.plan import Plan, PlannedTarget
from voxload.model.scenario import CallType, CsvFeeder, RandomPhone, Scenario, VariableSource
from voxload.model.script import labelled, spoken
from voxload.model.template import expand

__all__ = ["CALLER_NUMBER", "CALL_VALUES", "CallSpec", "Workload", "expand", "spoken_names"]

CALLER_NUMBER = "caller_number"
"""A variable that always exists: a random telephone number unless the scenario defines it."""
CALL_VALUES = ("call_id", "call_index", CALLER_NUMBER)
"""Names that every template of a call may use without a definition."""

_Maker = Callable[[int, random.Random], str]


class CallSpec(msgspec.Struct, frozen=True):
    """One call of the run; the same for the same plan and index in whichever process it is placed."""

    index: int
    call_id: str
    call_type: CallType
    phase: str
    values: dict[str, str]
    """Every variable as this call has it, `CALL_VALUES`, and the dialect's text options with variables filled in."""
    persona: Persona
    """Who calls."""
    target: int
    """The number of its target, 0 where there is only one."""
    rng: random.Random
    """For everything else that the call draws."""


class Workload:
    """The calls of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.scenario = Scenario.model_validate(plan.scenario)
        weights = [call.weight for call in self.scenario.calls]
        self._shares = list(itertools.accumulate(weight / math.fsum(weights) for weight in weights))
        self.personas = resolve_personas(self.scenario.personas)
        weights = [persona.weight for persona in self.personas]
        self._persona_shares = list(itertools.accumulate(weight / math.fsum(weights) for weight in weights))
        self._target_shares = list(itertools.accumulate(target.share for target in plan.targets))
        self._makers = self._build_makers()
        self._options = {name: text for name, text in self.scenario.dialect.options.items() if isinstance(text, str)}
        self._headers = {name: expand(text, plan.constants) for name, text in self.scenario.headers.items()}
        self._seed = self.scenario.seed << 64  # leaves room for the index: no two calls of any seed share a generator

    @property
    def targets(self) -> tuple[PlannedTarget, ...]:
        """All targets, where there are several."""
        return self._plan.targets

    @property
    def target_urls(self) -> tuple[str, ...]:
        """The base URLs of all targets."""
        return tuple(target.url for target in self._plan.targets) or (self._plan.target,)

    @property
    def run_id(self) -> str:
        """The run that the calls belong to."""
        return self._plan.run_id

    @property
    def authorities(self) -> str:
        """Certificate authorities to trust besides the system's, PEM."""
        return self._plan.authorities

    @property
    def source_addresses(self) -> tuple[str, ...]:
        """The addresses of this machine that calls come from, in turn; none: as the system chooses."""
        return self._plan.source_addresses

    def arrivals(self, shard: int, shards: int) -> Iterator[Arrival]:
        """Yield this shard's calls of an open load, in order; nothing for a closed load."""
        load = self.scenario.load
        if isinstance(load, ConcurrencyLoad):
            return iter(())
        return slice_arrivals(arrivals(load.phases(), load.process, self.scenario.seed), shard, shards)

    def call(self, index: int, phase: str) -> CallSpec:
        """Return the call with the number `index`."""
        rng = random.Random(self._seed + index)
        drawn = bisect.bisect_right(self._shares, rng.random())
        call_type = self.scenario.calls[min(drawn, len(self._shares) - 1)]
        drawn = bisect.bisect_right(self._persona_shares, rng.random()) if len(self.personas) > 1 else 0
        persona = self.personas[min(drawn, len(self.personas) - 1)]
        target = 0
        if self._target_shares:  # of its own generator, so that calls are the same with one target and with several
            share = random.Random(f"target {self._seed + index}").random()
            target = min(bisect.bisect_right(self._target_shares, share), len(self._target_shares) - 1)
        call_id = f"{self._plan.run_id}-{index}"
        values = {**self._plan.constants, "call_id": call_id, "call_index": str(index)}
        for name, make in self._makers:
            values[name] = make(index, rng)
        if self._options:
            values.update([(name, expand(text, values)) for name, text in self._options.items()])
        return CallSpec(index, call_id, call_type, phase, values, persona, target, rng)

    def headers(self) -> dict[str, str]:
        """Return the scenario's HTTP headers with the run's constants filled in."""
        return self._headers

    def utterances(self, name: str) -> tuple[Utterance, ...]:
        """Return the utterances among which a script's `name` chooses: of the corpus, or the one of a WAV file."""
        data = self._plan.media.get(name)
        return load_corpus().find(name) if data is None else (utterance_from_wav(data, name),)

    def labelled_texts(self) -> list[tuple[str, str]]:
        """Return (text, intent) of all that the callers may say and the corpus' agents answer, for a classifier."""
        said = {label for call in self.scenario.calls for label in labelled(call.script)}
        labels = [
            (text or utterance.text, intent or utterance.intent)
            for name, text, intent in sorted(said)
            for utterance in self.utterances(name)
        ]
        labels += [(utterance.text, utterance.intent) for utterance in load_corpus().agents]
        return [(text, intent) for text, intent in labels if text]

    def redact(self, text: str) -> str:
        """Return `text` without the values of secrets."""
        return self._plan.redact(text)

    def _build_makers(self) -> list[tuple[str, _Maker]]:
        """Return what makes the variables that differ from call to call, in the scenario's order."""
        makers: list[tuple[str, _Maker]] = []
        variables = self.scenario.variables
        if CALLER_NUMBER not in variables:
            makers.append((CALLER_NUMBER, _phone_maker(RandomPhone(), self.scenario.seed, CALLER_NUMBER)))
        for name, source in variables.items():
            if not isinstance(source, VariableSource):
                continue
            if source.random_phone is not None:
                makers.append((name, _phone_maker(source.random_phone, self.scenario.seed, name)))
            elif source.csv is not None:
                makers.append((name, _table_maker(source.csv, self._plan.tables[name])))
            elif source.choice is not None:
                makers.append((name, _choice_maker(source.choice)))
        return makers


def _phone_maker(phone: RandomPhone, seed: int, name: str) -> _Maker:
    """Return numbers that look random and repeat only after 10^digits calls.

    index ↦ (factor · index + start) mod 10^digits is a permutation because the factor has no divisor with 10 in common.
    """
    size = 10**phone.digits
    draw = random.Random(f"phone {seed} {name}")
    start, factor = draw.randrange(size), draw.randrange(1, size, 2)
    while factor % 5 == 0:
        factor = draw.randrange(1, size, 2)
    prefix, digits = phone.prefix, phone.digits
    return lambda index, _: f"{prefix}{(factor * index + start) % size:0{digits}d}"


def _table_maker(feeder: CsvFeeder, rows: tuple[str, ...]) -> _Maker:
    if feeder.pick == "random":
        return _choice_maker(rows)
    count = len(rows)
    return lambda index, _: rows[index % count]


def _choice_maker(values: tuple[str, ...]) -> _Maker:
    return lambda _, rng: rng.choice(values)


def spoken_names(calls: Iterable[CallType]) -> set[str]:
    """Return every utterance or intent that the scripts say."""
    return {name for call in calls for _, name in spoken(call.script)}
