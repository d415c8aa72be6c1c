"""`voxload component openai`: chat completions at a rate, timed by the token and held against quota and objective."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar

from voxload.clock import NS_PER_MS, NS_PER_S
from voxload.draws import uniform
from voxload.errors import RunAbortedError
from voxload.model.outcome import Outcome
from voxload.model.quantities import format_duration
from voxload.services.base import Component, ComponentRun, Operation, OperationFailedError
from voxload.services.openai.client import ChatClient, EntraTokens, RefusedError, Reply, build_client
from voxload.services.openai.options import OpenaiSettings
from voxload.services.openai.prompts import Ask, PromptBook, estimated_tokens
from voxload.services.openai.usage import DeploymentUsage, Shares
from voxload.services.settings import ComponentSettings
from voxload.services.stand_in import OwnStandIn
from voxload.standins.openai.settings import DEVELOPMENT_KEY

BACK_OFF_NS, BACK_OFF_NS_MAX = 500 * NS_PER_MS, 8 * NS_PER_S
"""Wait before another try where the service states none: doubled each time, less up to a quarter, as by the library."""
WAIT_NS_MAX = 120 * NS_PER_S
"""A request that is told to wait longer is not tried again, as by the library."""
PROBE_TOKENS = 16


class OpenaiComponent(Component[OpenaiSettings]):
    """Asks a service or, where none is named, a stand-in of its own."""

    name: ClassVar[str] = "openai"
    settings_type: ClassVar[type[ComponentSettings]] = OpenaiSettings
    target_option: ClassVar[str] = "endpoint"
    headline: ClassVar[tuple[str, ...]] = ("time_to_first_token", "inter_token_latency", "chat_latency")
    lateness_limit_ms: ClassVar[float] = 20.0

    def __init__(self, settings: OpenaiSettings, run: ComponentRun) -> None:
        super().__init__(settings, run)
        self._options = settings.options
        self._stand_in = OwnStandIn("openai")
        self._entra: EntraTokens | None = None
        self._client: ChatClient | None = None
        self._book: PromptBook | None = None
        self._usage = {each.name: DeploymentUsage(each) for each in self._options.deployments}
        self._finishes: Counter[str] = Counter()
        self._sent = self._waits = self._waited_ns = self._probes = self._untold = 0

    @classmethod
    def headline_of(cls, settings: ComponentSettings) -> tuple[str, ...]:
        """Return the latencies that there are: whole answers have no first token."""
        assert isinstance(settings, OpenaiSettings)
        return cls.headline if settings.options.stream else ("chat_latency",)

    @property
    def target(self) -> str:
        """The address of the service."""
        return self._options.endpoint or "stand-in for OpenAI"

    async def set_up(self) -> None:
        """Start the stand-in if there is to be one, and see that every deployment answers."""
        options = self._options
        self._book = PromptBook(options, self.settings.seed, self.settings.folder)
        url, key = options.endpoint, options.api_key.value
        if not url:
            url, key = await self._stand_in.start(self._stand_in_settings()), key or DEVELOPMENT_KEY
        if options.entra:
            self._entra = EntraTokens(options.entra_scope)
        token = self._entra.provider if self._entra is not None else None
        self._client = build_client(url, key if token is None else "", token, options, self.run.clock)
        await asyncio.gather(*(self._probe(url, each.name) for each in options.deployments))

    def _stand_in_settings(self) -> dict[str, Any]:
        """Return the stand-in's settings: the deployments that are asked, with their quotas, unless told otherwise."""
        service = dict(self._options.service)
        told = service.get("deployments")
        mine: dict[str, Any] = {}
        for each in self._options.deployments:
            quotas = {"tokens_per_minute": each.tokens_per_minute, "requests_per_minute": each.requests_per_minute}
            mine[each.name] = {"model": each.name, **{name: value for name, value in quotas.items() if value}}
        if isinstance(told, dict):
            mine |= {name: {**mine.get(name, {}), **each} for name, each in told.items() if isinstance(each, dict)}
        return {**service, "deployments": mine}

    async def _probe(self, url: str, deployment: str) -> None:
        """Ask one small question, so that a wrong key, name or field is told before the load."""
        assert self._client is not None
        self._probes += 1
        reply, limit = Reply(), PROBE_TOKENS if self._options.max_tokens is not None else 0
        try:
            async with asyncio.timeout(self._options.request_timeout_ns / NS_PER_S):
                await self._client.chat(Ask(deployment, [{"role": "user", "content": "Hello"}], limit), reply)
        except TimeoutError:  # it is there; how slow it is, is what the run will tell
            return
        except RefusedError as refused:
            if refused.worth_retrying:  # likewise for its limits
                return
            reason = f"{refused.status} {refused.text}"
        except OperationFailedError as failed:
            reason = failed.reason
        except Exception as error:  # noqa: BLE001  # a credential tells its failures by classes of its own
            reason = " ".join(str(error).split()) or type(error).__name__
        else:
            self._usage[deployment].learn(reply.tokens_limit, reply.requests_limit)
            return
        raise RunAbortedError(f"{url} cannot be used: {deployment}: {reason}")

    # --- one request ---

    async def operate(self, operation: Operation) -> None:
        """Ask one question, and record what its answer took."""
        assert self._book is not None
        operation.ready_ns = operation.clock()
        ask = self._book.draw(operation.index)
        usage = self._usage[ask.deployment]
        usage.start(operation.due_ns)
        met = False
        try:
            met = self._record(operation, ask, await self._asked(operation, ask, usage))
        except asyncio.CancelledError:
            if operation.clock() - operation.started_ns < self.settings.timeout_ns:  # not too slow: the run was stopped
                raise
            self._judge(operation, ask, met)
            raise
        except OperationFailedError:
            self._judge(operation, ask, met)
            raise
        self._judge(operation, ask, met)

    def _judge(self, operation: Operation, ask: Ask, met: bool) -> None:
        if self._options.slo is not None:
            operation.observe("slo_met", met, deployment=ask.deployment)

    async def _asked(self, operation: Operation, ask: Ask, usage: DeploymentUsage) -> Reply:
        """Return the answer, asking again where the service wants to be asked later."""
        for attempt in itertools.count():
            sent_ns, reply = operation.clock(), Reply()
            self._sent += 1
            number = self._sent
            usage.sent(number, sent_ns)
            try:
                await self._attempt(operation, ask, reply)
                return reply
            except RefusedError as refused:
                usage.refused += refused.status == 429
                wait_ns = self._wait_ns(operation, refused, attempt)
                if attempt >= self._options.retries or not refused.worth_retrying or wait_ns > WAIT_NS_MAX:
                    reason = f"{ask.deployment}: {refused.status} {refused.text}"
                    raise OperationFailedError(Outcome.REJECTED, reason) from None
                if refused.status == 429:
                    self._waits += 1
                    self._waited_ns += wait_ns
                    operation.latency("throttle_wait", 0, wait_ns, deployment=ask.deployment)
                operation.moment("wait", f"{refused.status}, {wait_ns / NS_PER_MS:.0f} ms")
            finally:
                operation.target_id = reply.request_id or operation.target_id
                taken = self._count(operation, ask, reply, sent_ns) if reply.admitted else 0
                self._show(usage, usage.over(number, taken, operation.clock()))
            await asyncio.sleep((wait_ns + NS_PER_MS) / NS_PER_S)  # loops round their timers to ms: never too early
        raise AssertionError

    async def _attempt(self, operation: Operation, ask: Ask, reply: Reply) -> None:
        """Make one request and count how it was answered."""
        assert self._client is not None
        status = "error"
        try:
            async with asyncio.timeout(self._options.request_timeout_ns / NS_PER_S):
                await self._client.chat(ask, reply)
            status = "200"
            if self._options.stream and not reply.finish:
                status = "error"
                raise OperationFailedError(Outcome.DROPPED_BY_TARGET, "the stream ended before the answer did")
        except RefusedError as refused:
            status = str(refused.status)
            raise
        except TimeoutError:
            reason = f"{ask.deployment}: no whole answer in time (request_timeout)"
            raise OperationFailedError(Outcome.TIMEOUT, reason) from None
        except OperationFailedError as failed:
            raise OperationFailedError(failed.outcome, f"{ask.deployment}: {failed.reason}") from None
        finally:
            operation.recorder.http_answer(f"chat {ask.deployment}", status)
            if status != "error":
                operation.observe("throttled", status == "429", deployment=ask.deployment)

    def _wait_ns(self, operation: Operation, refused: RefusedError, attempt: int) -> int:
        if refused.wait_ns:
            return refused.wait_ns
        shorter = 1 - uniform(self.settings.seed, operation.operation_id, attempt, "back_off") / 4
        return round(min(BACK_OFF_NS << min(attempt, 10), BACK_OFF_NS_MAX) * shorter)

    # --- what it says ---

    def _count(self, operation: Operation, ask: Ask, reply: Reply, sent_ns: int) -> int:
        """Record what came of a request that was let through, also if it broke off; returns what its quota counts."""
        usage, name = self._usage[ask.deployment], ask.deployment
        if not reply.prompt_tokens:
            self._untold += 1
            reply.prompt_tokens = estimated_tokens(ask.messages)
            reply.completion_tokens = len(reply.pieces_ns)
        usage.learn(reply.tokens_limit, reply.requests_limit)
        usage.prompt_tokens += reply.prompt_tokens
        usage.cached_tokens += reply.cached_tokens
        usage.completion_tokens += reply.completion_tokens
        if reply.pieces_ns:
            operation.latency("time_to_first_token", operation.due_ns, reply.pieces_ns[0], deployment=name)
            operation.latency("time_to_first_token_uncorrected", sent_ns, reply.pieces_ns[0], deployment=name)
            gaps_ns = [later_ns - earlier_ns for earlier_ns, later_ns in itertools.pairwise(reply.pieces_ns)]
            operation.latencies("inter_token_latency", gaps_ns, deployment=name)
        return reply.prompt_tokens + (ask.max_tokens or reply.completion_tokens)

    def _show(self, usage: DeploymentUsage, shares: Iterable[Shares]) -> None:
        labels = (("component", self.name), ("deployment", usage.name))
        for share in shares:
            if share.tokens is not None:
                self.run.recorder.observe("token_quota_used", labels, share.tokens)
            if share.requests is not None:
                self.run.recorder.observe("request_quota_used", labels, share.requests)

    def _record(self, operation: Operation, ask: Ask, reply: Reply) -> bool:
        """Record a whole answer; returns whether it keeps the objective."""
        over_ns, name = operation.clock(), ask.deployment
        self._finishes[reply.finish or "none"] += 1
        operation.latency("chat_latency", operation.due_ns, over_ns, deployment=name)
        operation.observe("prompt_tokens", reply.prompt_tokens, deployment=name)
        operation.observe("completion_tokens", reply.completion_tokens, deployment=name)
        first_ns, last_ns = (reply.pieces_ns[0], reply.pieces_ns[-1]) if reply.pieces_ns else (over_ns, over_ns)
        said = reply.completion_tokens - reply.reasoning_tokens
        if said > 1 and last_ns > first_ns:
            operation.observe("output_speed", (said - 1) * NS_PER_S / (last_ns - first_ns), deployment=name)
        slo = self._options.slo
        return slo is not None and (
            (slo.time_to_first_token_ns is None or first_ns - operation.due_ns <= slo.time_to_first_token_ns)
            and (slo.total_ns is None or over_ns - operation.due_ns <= slo.total_ns)
        )

    # --- the end ---

    async def settle(self) -> None:
        """Tell the last shares of the quotas."""
        for usage in self._usage.values():
            self._show(usage, usage.end())

    async def tear_down(self) -> None:
        """Close the client and the credential, and stop the stand-in."""
        if self._client is not None:
            await self._client.close()
        if self._entra is not None:
            await self._entra.close()
        await self._stand_in.stop()

    def died(self) -> str:
        """Return whether the stand-in has died."""
        return self._stand_in.died()

    def doubt(self) -> str:
        """Return whether the stand-in met a limit of this machine."""
        return self._stand_in.doubt()

    def facts(self) -> dict[str, str]:
        """Tell what was let through of each deployment's quota, what was waited for, how answers ended."""
        facts = {
            "client": "openai" if self._options.client == "sdk" else "our own requests",
            "answers": "streamed" if self._options.stream else "whole",
            "requests before the load": str(self._probes),
        }
        for usage in self._usage.values():
            facts |= _usage_facts(usage)
        if self._waits:
            facts["waits for a quota"] = f"{self._waits:,}, {format_duration(self._waited_ns)} together"
        if self._untold:
            facts["tokens estimated"] = f"of {self._untold:,} requests: no usage was told"
        if self._finishes:
            facts["answers ended by"] = ", ".join(f"{name} {count:,}" for name, count in self._finishes.most_common())
        slo = self._options.slo
        if slo is not None:
            limits = {"first token": slo.time_to_first_token_ns, "total": slo.total_ns}
            facts["objective"] = ", ".join(f"{name} ≤ {format_duration(ns)}" for name, ns in limits.items() if ns)
        return facts


def _usage_facts(usage: DeploymentUsage) -> dict[str, str]:
    minutes, shares = usage.elapsed_s / 60, usage.shares()

    def of(share: float | None, quota: int) -> str:
        return "no quota known" if share is None else f"{share:.1f} % of {quota:,}"

    billed = usage.prompt_tokens + usage.completion_tokens
    known = f" ({usage.cached_tokens:,} from a cache)" if usage.cached_tokens else ""
    return {
        f"{usage.name}: requests": f"{usage.admitted:,} let through, {usage.refused:,} answered 429; "
        f"{usage.admitted / minutes:,.0f} a minute, {of(shares.requests, usage.requests_per_minute)}",
        f"{usage.name}: tokens": f"{usage.prompt_tokens:,} in{known}, {usage.completion_tokens:,} out; "
        f"{billed / minutes:,.0f} a minute",
        f"{usage.name}: tokens that the quota counts": f"{usage.quota_tokens:,}; "
        f"{usage.quota_tokens / minutes:,.0f} a minute, {of(shares.tokens, usage.tokens_per_minute)}",
    }
