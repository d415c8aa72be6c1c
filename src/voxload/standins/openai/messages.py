"""What the stand-in for chat completions sends: one chat's messages, whole and in chunks."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from voxload.standins.openai.deployment import Deployment
from voxload.standins.openai.words import Answer

SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
_FILTERED = {**SAFE, "violence": {"filtered": True, "severity": "medium"}}


@dataclass(slots=True)
class Chat:
    """A request that was let through."""

    http: web.Request
    body: dict[str, Any]
    deployment: Deployment
    number: int
    azure: bool
    answer: Answer
    finish: str
    due_ns: list[int]
    prompt_tokens: int
    headers: dict[str, str]
    created_s: int
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex[:29]}")

    @property
    def usage(self) -> dict[str, Any]:
        """What it has cost."""
        said = len(self.answer.tokens)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": said,
            "total_tokens": self.prompt_tokens + said,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }

    def frame(self, kind: str, **more: Any) -> dict[str, Any]:
        """Return the fields that every message of an answer has."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created_s,
            "model": self.deployment.settings.model,
            "system_fingerprint": "fp_voxload",
            **more,
        }


def tool_call(chat: Chat) -> dict[str, Any]:
    """Return the call of a tool, whole."""
    function = {"name": chat.answer.tool, "arguments": chat.answer.text}
    return {"id": f"call_{chat.id[-24:]}", "type": "function", "function": function}


def chunk(chat: Chat, delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    """Return one message of a stream."""
    choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    if chat.azure:
        choice["content_filter_results"] = _FILTERED if finish == "content_filter" else SAFE if delta else {}
    usage = {"usage": None} if (chat.body.get("stream_options") or {}).get("include_usage") else {}
    return chat.frame("chat.completion.chunk", choices=[choice], **usage)


def opening(chat: Chat) -> list[dict[str, Any]]:
    """Return what comes before the first token: on Azure the filter's word on the prompt, then the role."""
    delta: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
    if chat.answer.tool:
        call = tool_call(chat)
        delta = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{**call, "index": 0, "function": {**call["function"], "arguments": ""}}],
        }
    chunks = [chunk(chat, delta, None)]
    if chat.azure:
        results = [{"prompt_index": 0, "content_filter_results": SAFE}]
        empty = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": results}
        chunks.insert(0, empty)
    return chunks


def events(*chunks: dict[str, Any]) -> bytes:
    """Return messages as server-sent events."""
    return b"".join(b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n" for chunk in chunks)
