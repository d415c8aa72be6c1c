"""What is asked: prompts from a file or made up to a length, by the seed and the number of the request alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from voxload.draws import uniform
from voxload.errors import BadInputError, Problem
from voxload.model.source import read_bytes
from voxload.services.openai.lengths import Lengths

if TYPE_CHECKING:
    from voxload.services.openai.options import OpenaiOptions

WORDS = (
    "the you for and day can see one now our get ask how may new way two end yes let any few own set try all but his "
    "her was who did its out use had say she not has him old too put big off top run far red car"
)
"""Words of three letters: each is one token of GPT's vocabularies, and with its space a token's four characters."""
CHARACTERS_PER_TOKEN = 4
POOL_WORDS = 20_000
MADE_UP = Lengths(span=(100, 400))
"""Length of made-up prompts where none is given."""
PROBLEMS_MAX = 20


class Prompt(NamedTuple):
    """The messages of a request, and the longest answer that they ask for, if they do."""

    messages: list[dict[str, Any]]
    max_tokens: int = 0


class Ask(NamedTuple):
    """One request; `max_tokens` 0: no limit."""

    deployment: str
    messages: list[dict[str, Any]]
    max_tokens: int


def read_prompts(path: Path) -> list[Prompt]:
    """Return the prompts of a file.

    A line of JSON Lines is a text, `{"prompt": text}` or `{"messages": […]}`, the latter two also with `max_tokens`; of
    any other file each line is a prompt.

    Raises:
        BadInputError: it cannot be read, holds none, or has lines that are none of these; the first are listed.
    """
    lines = read_bytes(path).decode(errors="replace").splitlines()
    found, problems = list[Prompt](), list[Problem]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(_parsed(line) if path.suffix in {".jsonl", ".ndjson"} else Prompt(_user(line.strip())))
        except ValueError as error:
            problems.append(Problem(str(error), str(path), number))
    if not found and not problems:
        problems.append(Problem("there is no prompt in it", str(path)))
    if problems:
        raise BadInputError(problems[:PROBLEMS_MAX])
    return found


def _user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def _parsed(line: str) -> Prompt:
    try:
        item = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(item, str) and item:
        return Prompt(_user(item))
    if not isinstance(item, dict) or ("prompt" in item) == ("messages" in item):
        raise ValueError('expected a text, {"prompt": "…"} or {"messages": […]}')
    unknown = sorted(item.keys() - {"prompt", "messages", "max_tokens"})
    if unknown:
        raise ValueError(f"{unknown[0]} is unknown; there are prompt, messages, max_tokens")
    limit = item.get("max_tokens", 0)
    if "max_tokens" in item and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise ValueError("max_tokens: expected a number of tokens, at least 1")
    if "prompt" in item:
        if not isinstance(item["prompt"], str) or not item["prompt"]:
            raise ValueError("prompt: expected a text")
        return Prompt(_user(item["prompt"]), limit)
    messages = item["messages"]
    if not isinstance(messages, list) or not messages or not all(_is_message(each) for each in messages):
        raise ValueError('messages: expected a list of {"role": …, "content": …}')
    return Prompt(messages, limit)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str)


class PromptBook:
    """Draws the requests of a run."""

    def __init__(self, options: OpenaiOptions, seed: int, folder: Path) -> None:
        self._options, self._seed = options, seed
        self._system = [{"role": "system", "content": options.system}] if options.system else []
        self._prompts: Sequence[Prompt] = read_prompts(folder / options.prompts) if options.prompts else ()
        pool = " ".join(Random(seed).choices(WORDS.split(), k=POOL_WORDS)) + " "
        self._pool = pool
        total = sum(each.weight for each in options.deployments)
        shares = [each.weight / total for each in options.deployments]
        self._bounds = [sum(shares[: place + 1]) for place in range(len(shares))]

    def draw(self, index: int) -> Ask:
        """Return what the request of this number asks."""
        name = str(index)
        prompt = self._prompts[index % len(self._prompts)] if self._prompts else Prompt(_user(self._made_up(name)))
        lengths = self._options.max_tokens
        limit = prompt.max_tokens or (lengths.at(uniform(self._seed, name, 0, "max_tokens")) if lengths else 0)
        return Ask(self._deployment(name), self._system + prompt.messages, limit)

    def _deployment(self, name: str) -> str:
        drawn = uniform(self._seed, name, 0, "deployment")
        place = next((place for place, bound in enumerate(self._bounds) if drawn < bound), -1)
        return self._options.deployments[place].name

    def _made_up(self, name: str) -> str:
        """Return words as many as tokens are asked for, each time from elsewhere in the pool: no cache knows them."""
        lengths = self._options.prompt_tokens or MADE_UP
        size = lengths.at(uniform(self._seed, name, 0, "prompt_tokens")) * CHARACTERS_PER_TOKEN
        start = int(uniform(self._seed, name, 0, "prompt") * POOL_WORDS) * CHARACTERS_PER_TOKEN
        text = self._pool[start : start + size]
        if len(text) < size:
            text += self._pool * ((size - len(text)) // len(self._pool) + 1)
        return text[:size].rstrip()


def estimated_tokens(messages: Sequence[dict[str, Any]]) -> int:
    """Return about how many tokens a prompt has, a quarter of its characters, for when the service tells nothing."""
    characters = sum(len(content) for each in messages if isinstance(content := each.get("content"), str))
    return -(-characters // CHARACTERS_PER_TOKEN)
