"""The HTTP face of the stand-in for chat completions: Azure's paths and OpenAI's, whole answers and streams."""

from __future__ import annotations

import hmac
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from aiohttp import web

from voxload.clock import NS_PER_S, Clock, monotonic_ns, unix_ns
from voxload.draws import chance, digest
from voxload.standins.openai import errors
from voxload.standins.openai.deployment import Deployment
from voxload.standins.openai.messages import SAFE, Chat, chunk, events, opening, tool_call
from voxload.standins.openai.settings import ChatSettings, DeploymentSettings
from voxload.standins.openai.words import compose, prompt_tokens
from voxload.standins.pacing import Pacer
from voxload.standins.serving import StandIn, new_application

API_VERSION = "2024-10-21"
_TOKEN_FORM = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*")


class RefusedError(Exception):
    """A request is answered with an error."""

    def __init__(self, refusal: errors.Refusal) -> None:
        super().__init__(refusal.error["message"])
        self.refusal = refusal


class ChatStandIn(StandIn):
    """Chat completions at Azure's and OpenAI's paths."""

    def __init__(
        self,
        settings: ChatSettings | None = None,
        clock: Clock = monotonic_ns,
        wall_ns: Callable[[], int] = unix_ns,
    ) -> None:
        self.settings = settings or ChatSettings()
        self._clock, self._wall_ns = clock, wall_ns
        self._pacer = Pacer(clock)
        self.refused: Counter[str] = Counter()
        """Refusals by status and code."""
        self.deployments: dict[str, Deployment] = {}
        for name, deployment in self.settings.deployments.items():
            self._deploy(name, deployment)

    def application(self) -> web.Application:
        """Return what serves it."""
        application = new_application(self._counters)
        application.cleanup_ctx.append(self._pacer.turning)
        router = application.router
        router.add_post("/openai/deployments/{deployment}/chat/completions", self._answer)
        for root in ("/openai/v1", "/v1"):
            router.add_post(f"{root}/chat/completions", self._answer)
            router.add_get(f"{root}/models", self._models)
        return application

    def environment(self, url: str) -> dict[str, str]:
        """Return the variables that the openai library reads, for Azure and without."""
        key = self.settings.keys[0] if self.settings.keys else "none"
        return {
            "AZURE_OPENAI_ENDPOINT": url,
            "AZURE_OPENAI_API_KEY": key,
            "OPENAI_API_VERSION": API_VERSION,
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_API_KEY": key,
        }

    def _counters(self) -> dict[str, Any]:
        found = {name: {**each.quota.counts(), **each.counts} for name, each in self.deployments.items()}
        return {"deployments": found, "refused": dict(self.refused)}

    # --- admission ---

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        received_ns = self._clock()
        headers = {"x-request-id": str(uuid.uuid4()), "x-ms-region": "voxload"}
        headers["apim-request-id"] = headers["x-request-id"]
        try:
            chat = await self._admit(http, received_ns, headers)
        except RefusedError as error:
            refusal = error.refusal
            self.refused[f"{refusal.status} {refusal.error.get('code')}"] += 1
            return web.json_response(
                {"error": refusal.error}, status=refusal.status, headers={**headers, **refusal.headers}
            )
        return await (self._stream(chat) if chat.body.get("stream") else self._whole(chat))

    async def _admit(self, http: web.Request, received_ns: int, headers: dict[str, str]) -> Chat:
        azure = http.path.startswith("/openai/")
        body = self._checked_body(await http.read())
        self._authorize(http)
        version = http.query.get("api-version", "")
        name = http.match_info.get("deployment", "")
        if name and not version:
            raise RefusedError(errors.not_found())
        name = name or str(body.get("model") or "")
        deployment = self._find(name, azure)
        number = deployment.requests
        deployment.requests += 1
        random = Random(digest(self.settings.seed, name, number, "reply"))
        answer = compose(body, self.settings.replies, deployment.settings, random)
        limit, prompt = _limit(body), prompt_tokens(body["messages"], body.get("tools"))
        what, wait_ns = deployment.quota.admit(prompt + (limit or len(answer.tokens)), received_ns)
        headers |= deployment.quota.headers(received_ns)
        if what:
            raise RefusedError(errors.rate_limited(what, wait_ns, azure, version or "v1", name))
        self._strike(deployment, number)
        finish = "tool_calls" if answer.tool else "stop"
        if limit and limit < len(answer.tokens):
            answer, finish = answer._replace(tokens=answer.tokens[:limit]), "length"
        due_ns = deployment.schedule(number, len(answer.tokens), received_ns)
        created_s = self._wall_ns() // NS_PER_S
        return Chat(http, body, deployment, number, azure, answer, finish, due_ns, prompt, headers, created_s)

    @staticmethod
    def _checked_body(raw: bytes) -> dict[str, Any]:
        try:
            body = json.loads(raw)
        except ValueError:
            raise RefusedError(errors.bad_request("We could not parse the JSON body of your request.")) from None
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
            raise RefusedError(errors.bad_request("'messages' is a required property, an array.", "messages"))
        if body.get("n") not in {None, 1}:
            raise RefusedError(errors.bad_request("The stand-in has one choice: n must be 1.", "n"))
        for name in ("max_tokens", "max_completion_tokens"):
            value = body.get(name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise RefusedError(errors.bad_request(f"Invalid '{name}': expected an integer above 0.", name))
        return body

    def _authorize(self, http: web.Request) -> None:
        settings = self.settings
        scheme, _, bearer = http.headers.get("Authorization", "").partition(" ")
        token = bearer.strip() if scheme.lower() == "bearer" else ""
        given = http.headers.get("api-key") or token
        known = any(hmac.compare_digest(given.encode(), key.encode()) for key in settings.keys)
        if not known and settings.keys and not (settings.entra_tokens and _TOKEN_FORM.fullmatch(token)):
            raise RefusedError(errors.unauthorized())

    def _find(self, name: str, azure: bool) -> Deployment:
        if name in self.deployments:
            return self.deployments[name]
        if self.settings.deployments or not name:
            raise RefusedError(errors.no_deployment(azure, name))
        return self._deploy(name, DeploymentSettings(model=name))

    def _deploy(self, name: str, settings: DeploymentSettings) -> Deployment:
        self.deployments[name] = Deployment(name, settings, self.settings.seed, self._clock())
        return self.deployments[name]

    def _draw(self, deployment: Deployment, number: int, name: str, rate: float) -> bool:
        if not chance(rate, self.settings.seed, deployment.name, number, name):
            return False
        deployment.counts[name] += 1
        return True

    def _strike(self, deployment: Deployment, number: int) -> None:
        faults = self.settings.faults
        if self._draw(deployment, number, "errors", faults.error_rate):
            raise RefusedError(errors.failed(faults.error_status))
        if self._draw(deployment, number, "filtered_prompts", faults.filter_rate):
            raise RefusedError(errors.filtered_prompt())

    # --- answers ---

    async def _whole(self, chat: Chat) -> web.StreamResponse:
        if self._draw(chat.deployment, chat.number, "disconnects", self.settings.faults.disconnect_rate):
            await self._pacer.until(chat.due_ns[len(chat.due_ns) // 2])
            return _cut(chat.http, web.StreamResponse())
        await self._pacer.until(chat.due_ns[-1])
        message: dict[str, Any] = {"role": "assistant", "content": chat.answer.text, "refusal": None}
        if chat.answer.tool:
            message |= {"content": None, "tool_calls": [tool_call(chat)]}
        choice: dict[str, Any] = {"index": 0, "message": message, "logprobs": None, "finish_reason": chat.finish}
        more: dict[str, Any] = {}
        if chat.azure:
            choice["content_filter_results"] = SAFE
            more["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": SAFE}]
        chat.deployment.counts["tokens_said"] += len(chat.answer.tokens)
        chat.deployment.counts["answers"] += 1
        body = chat.frame("chat.completion", choices=[choice], usage=chat.usage, **more)
        return web.json_response(body, headers=chat.headers)

    async def _stream(self, chat: Chat) -> web.StreamResponse:
        faults, tokens, counts = self.settings.faults, chat.answer.tokens, chat.deployment.counts
        middle = (len(tokens) + 1) // 2
        cut_at = middle if self._draw(chat.deployment, chat.number, "disconnects", faults.disconnect_rate) else -1
        filter_at = (
            middle if self._draw(chat.deployment, chat.number, "filtered_replies", faults.filtered_reply_rate) else -1
        )
        if faults.stall and self._draw(chat.deployment, chat.number, "stalls", faults.stall.rate):
            chat.due_ns[middle:] = [due_ns + faults.stall.for_ns for due_ns in chat.due_ns[middle:]]
        answer = web.StreamResponse(headers={**chat.headers, "Content-Type": "text/event-stream; charset=utf-8"})
        for place, (token, due_ns) in enumerate(zip(tokens, chat.due_ns, strict=True)):
            await self._pacer.until(due_ns)
            if place == 0:
                await answer.prepare(chat.http)
                await answer.write(events(*opening(chat)))
            if place == cut_at:
                return _cut(chat.http, answer)
            if place == filter_at:
                chat.finish = "content_filter"
                break
            delta: dict[str, Any] = {"content": token}
            if chat.answer.tool:
                delta = {"tool_calls": [{"index": 0, "function": {"arguments": token}}]}
            await answer.write(events(chunk(chat, delta, None)))
            counts["tokens_said"] += 1
        ending = [chunk(chat, {}, chat.finish)]
        if (chat.body.get("stream_options") or {}).get("include_usage"):
            ending.append(chat.frame("chat.completion.chunk", choices=[], usage=chat.usage))
        await answer.write(events(*ending) + b"data: [DONE]\n\n")
        counts["answers"] += 1
        await answer.write_eof()
        return answer

    async def _models(self, http: web.Request) -> web.Response:
        try:
            self._authorize(http)
        except RefusedError as error:
            return web.json_response({"error": error.refusal.error}, status=error.refusal.status)
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "voxload"} for name in self.deployments]
        return web.json_response({"object": "list", "data": data})


def _limit(body: dict[str, Any]) -> int:
    return int(body.get("max_completion_tokens") or body.get("max_tokens") or 0)


def _cut(http: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    """Lose the connection."""
    if http.transport is not None:
        http.transport.close()
    return answer
