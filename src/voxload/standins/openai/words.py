"""Prompts and replies as tokens, of the stand-in's own kind: a word is a token, those of a prompt are estimated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from voxload.standins.openai.settings import DeploymentSettings, Reply

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
SENTENCES = (
    "Thank you for calling the clinic, how can I help you today?",
    "Certainly, I can offer you Tuesday at ten in the morning.",
    "Your refill will be ready at the pharmacy tomorrow.",
    "We are open from eight until six, Monday to Friday.",
    "Your results are in, and everything looks normal.",
    "Let me look into that for you, one moment please.",
)
_TOKEN = re.compile(r"\s*\S+\s*$|\s*\S+")


class Answer(NamedTuple):
    """What will be said, token by token; `tool` when it is the arguments of a tool's call."""

    tokens: list[str]
    tool: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.tokens)


def prompt_tokens(messages: Sequence[Any], tools: Any = None) -> int:
    """Return about how many tokens a prompt has: a quarter of its characters, and some for each message."""
    characters = sum(len(text) for message in messages for text in _texts(message))
    if tools:
        characters += len(json.dumps(tools))
    return -(-characters // CHARACTERS_PER_TOKEN) + TOKENS_PER_MESSAGE * len(messages)


def last_text(messages: Sequence[Any]) -> str:
    """Return the text of the last message."""
    return " ".join(_texts(messages[-1])) if messages else ""


def _texts(message: Any) -> Iterator[str]:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]


def split(text: str) -> list[str]:
    """Return a text as tokens, which put together are the text."""
    return _TOKEN.findall(text) or [text]


def compose(body: dict[str, Any], replies: Sequence[Reply], settings: DeploymentSettings, random: Random) -> Answer:
    """Return the whole answer to a request: what is scripted, or sentences of a drawn length."""
    said = last_text(body["messages"])
    names = {tool["function"]["name"] for tool in body.get("tools") or () if isinstance(tool.get("function"), dict)}
    for reply in replies:
        if not re.search(reply.match, said):
            continue
        if not reply.tool:
            return Answer(split(reply.text))
        if reply.tool in names:
            return Answer(split(json.dumps(reply.arguments)), reply.tool)
    length = random.randint(*settings.reply_tokens)
    first = random.randrange(len(SENTENCES))
    tokens: list[str] = []
    while len(tokens) < length:
        tokens += split((" " if tokens else "") + SENTENCES[(first + len(tokens)) % len(SENTENCES)])
    tokens = tokens[:length]
    kind = (body.get("response_format") or {}).get("type") if isinstance(body.get("response_format"), dict) else None
    return Answer(split(json.dumps({"reply": "".join(tokens)}))) if kind == "json_object" else Answer(tokens)
