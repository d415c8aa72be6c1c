"""A load test for Azure written as YAML, with thread groups, requests and a WebSocket, as a scenario.

Azure Load Testing itself runs JMeter, Locust or a list of URLs, and its own YAML only names their files; this form is
what strategies and wrappers write down: `testPlan` is a list of plans, each with `threadGroups` and `scenarios`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from voxload.errors import BadInputError, Problem
from voxload.importers.artillery import RTMED_START
from voxload.importers.artillery_flow import UTTERANCE
from voxload.importers.artillery_load import in_seconds, number, seconds
from voxload.importers.notes import Imported, Notes
from voxload.model.quantities import parse_rate_per_s
from voxload.model.source import Location, Source, read_source

KNOWN = {"testName", "testId", "displayName", "description", "version", "engineInstances", "testPlan"}
RTMED_FIELDS = ("agent_type", "caller_number", "language")
RTMED_RATES = (10, 20, 25, 40, 50)
_RTMED_SOCKET = re.compile(r"/ws/call/\$\{\w+\}")
_URL = re.compile(r"(?:(https?|wss?)://)?([^/]*)(/.*)?", re.DOTALL)
_EXPRESSION = re.compile(r"\$\{([^{}]*)\}")
_PHONE = re.compile(r"(\+?\d+)\$\{__Random\(\s*(\d+)\s*,\s*(\d+)\s*\)\}")


class _Socket(NamedTuple):
    """The WebSocket of a call."""

    name: str
    path: str
    length_s: float | None
    message_rate_per_s: float | None
    place: Location


def import_azure_load_test(path: str | Path) -> Imported:
    """Translate a file.

    Raises:
        BadInputError: it cannot be read, has another form, or there is no call in it: no WebSocket, no threads.
    """
    source = read_source(path)
    plans = source.data.get("testPlan") if isinstance(source.data, dict) else None
    if isinstance(plans, str):
        hint = "Azure's own form; import a Locust or JMeter test by hand: docs/scenario.md says what a scenario holds"
        line = source.line(("testPlan",))
        raise BadInputError(
            [Problem(f"testPlan names a file, {plans}: the calls are not here", source.file, line, hint)]
        )
    if not isinstance(plans, list):
        hint = "testPlan: is a list of plans with threadGroups: and scenarios:"
        raise BadInputError([Problem("no testPlan: this is no such load test", source.file, 1, hint)])
    return _Importer(source, plans).run()


class _Importer:
    def __init__(self, source: Source, plans: list[Any]) -> None:
        self._source = source
        self._plans = plans
        self._notes = Notes(source)
        self._variables: dict[str, Any] = {}
        self._headers: dict[str, str] = {}
        self._target = ""
        self._start: dict[str, Any] | None = None
        self._requests: list[dict[str, str]] = []
        self._sockets: list[_Socket] = []

    def run(self) -> Imported:
        """Translate the whole file."""
        data = self._source.data
        for key in data.keys() - KNOWN:
            hint = "gates: p95(call_setup) < 2s" if key == "failureCriteria" else ""
            self._notes.add((key,), f"{key}: not brought over", hint)
        load = self._load(data)
        for position, plan in enumerate(self._plans):
            self._plan(plan, ("testPlan", position))
        problems = []
        if not self._sockets:
            line, hint = self._source.line(("testPlan",)), "voxload component http loads plain requests"
            problems.append(Problem("no scenario opens a WebSocket: no call", self._source.file, line, hint))
        if load is None:
            line, hint = self._source.line(("testPlan",)), "threadGroups: [{threads: 100, rampUp: 60s, duration: 300s}]"
            problems.append(Problem("no thread group places load", self._source.file, line, hint))
        if problems:
            raise BadInputError([*problems, *self._notes.found])
        parts = {
            "version": 1,
            "name": str(data.get("testName") or Path(self._source.file).stem)[:120],
            "target": self._target or "twin",
            "dialect": self._dialect(self._sockets[0]),
            "variables": self._variables,
            "headers": self._headers,
            "load": load,
            "calls": [self._call(socket) for socket in self._sockets[:1]],
            "side_traffic": {"requests": self._requests} if self._requests else None,
        }
        for socket in self._sockets[1:]:
            self._notes.add(socket.place, "a second WebSocket: a run speaks one protocol", "a scenario of its own")
        return Imported({name: value for name, value in parts.items() if value}, notes=self._notes.found)

    # --- load ---

    def _load(self, data: dict[str, Any]) -> dict[str, Any] | None:
        """Return the threads of all groups and engines as callers, each of whom calls again when its call is over."""
        engines = number(data.get("engineInstances", 1)) or 1
        threads = ramp_s = length_s = 0.0
        for place, group in self._groups():
            found, length = number(group.get("threads")), seconds(group.get("duration"))
            if not found or not length:
                self._notes.add(place, "a thread group needs threads and a duration: left out")
                continue
            for key in group.keys() - {"threads", "rampUp", "duration"}:
                self._notes.add((*place, key), f"{key}: not brought over")
            if threads and length != length_s:
                self._notes.add(place, "thread groups of different lengths: the longest holds for all their threads")
            threads, length_s = threads + found, max(length_s, length)
            ramp_s = max(ramp_s, seconds(group.get("rampUp")) or 0.0)
        if not threads:
            return None
        callers = int(threads * engines)
        if engines > 1:
            hint = f"voxload export azure-load-testing SCENARIO --engines {engines:g} shares them out again"
            self._notes.add(
                ("engineInstances",), f"{engines:g} engines of {threads:g} threads are {callers:,} callers", hint
            )
        ramp = {"ramp_up": in_seconds(min(ramp_s, length_s))} if ramp_s else {}
        return {"shape": "concurrency", "concurrency": callers, **ramp, "duration": in_seconds(length_s)}

    def _groups(self) -> list[tuple[Location, dict[str, Any]]]:
        return [
            (("testPlan", at, "threadGroups", position), group)
            for at, plan in enumerate(self._plans)
            if isinstance(plan, dict)
            if isinstance(plan.get("threadGroups"), list)
            for position, group in enumerate(plan["threadGroups"])
            if isinstance(group, dict)
        ]

    # --- what callers do ---

    def _plan(self, plan: Any, place: Location) -> None:
        scenarios = plan.get("scenarios") if isinstance(plan, dict) else None
        if not isinstance(scenarios, list):
            self._notes.add(place, "a plan without scenarios: left out")
            return
        for position, item in enumerate(scenarios):
            here: Location = (*place, "scenarios", position)
            if not isinstance(item, dict):
                self._notes.add(here, "a scenario is a mapping with requests: or websocket:")
                continue
            for key in item.keys() - {"name", "requests", "websocket"}:
                self._notes.add((*here, key), f"{key}: not brought over")
            requests = item.get("requests")
            for index, request in enumerate(requests if isinstance(requests, list) else []):
                self._request(request, (*here, "requests", index))
            if item.get("websocket") is not None:
                self._socket(item, (*here, "websocket"))

    def _request(self, request: Any, place: Location) -> None:
        settings = request if isinstance(request, dict) else {"url": request}
        method = str(settings.get("method") or "GET").upper()
        path = self._path(str(settings.get("url") or "/"), (*place, "url"))
        headers = settings.get("headers")
        for name, value in headers.items() if isinstance(headers, dict) else ():
            text = self._text(str(value), (*place, "headers", name))
            if str(name).lower() not in {"content-type", "accept"} and text is not None:
                self._headers[str(name)] = text
        if path is None:
            return
        if method == "POST" and self._start is None:
            self._start = {"path": path, "body": self._body(settings.get("body"), (*place, "body"))}
        elif method == "GET":
            self._requests.append({"get": path})
        else:
            hint = "component tests: voxload component http"
            self._notes.add(place, f"{method} {path}: beside a call only GET requests are made", hint)

    def _body(self, written: Any, place: Location) -> dict[str, Any]:
        try:
            body = json.loads(written) if isinstance(written, str) else written or {}
        except ValueError:
            body = None
        if not isinstance(body, dict):
            self._notes.add(place, "the body is no JSON object: left out", "start.body of the dialect json")
            return {}
        found: dict[str, Any] = {}
        for name, value in body.items():
            translated = self._text(value, place, name) if isinstance(value, str) else value
            if translated is not None:
                found[name] = translated
        return found

    def _socket(self, item: dict[str, Any], place: Location) -> None:
        written = item["websocket"]
        settings = written if isinstance(written, dict) else {"url": written}
        for key in settings.keys() - {"url", "duration", "messageRate"}:
            self._notes.add((*place, key), f"{key}: not brought over", "the dialect's options")
        path = self._path(str(settings.get("url") or "/"), (*place, "url"))
        rate = None
        if settings.get("messageRate") is not None:
            try:
                rate = parse_rate_per_s(settings["messageRate"])
            except ValueError as error:
                self._notes.add((*place, "messageRate"), f"messageRate: {error}")
        name = re.sub(r"\W+", "_", str(item.get("name") or "call").lower()).strip("_")
        name = name if name[:1].isalpha() else f"call_{name}"
        self._sockets.append(_Socket(name, path or "/", seconds(settings.get("duration")), rate, place))

    def _call(self, socket: _Socket) -> dict[str, Any]:
        words = f"messages without content: every utterance is {UTTERANCE}, said at the pace of speech"
        instead = "an intent of the corpus or a WAV file; wait_for_agent before it if the agent speaks first"
        self._notes.add(socket.place, words, instead)
        turn: list[Any] = [{"say": UTTERANCE}, "wait_for_agent"]
        if socket.length_s:
            turn = [{"repeat": {"until": in_seconds(socket.length_s), "steps": [*turn, {"think": "1s"}]}}]
        return {"name": socket.name, "script": [*turn, "hang_up"]}

    def _dialect(self, socket: _Socket) -> dict[str, Any]:
        """Return the dialect: `rtmed` where the paths are its own, else `json` with what is known of it."""
        start, rate = self._start or {}, socket.message_rate_per_s
        if start.get("path") == RTMED_START and _RTMED_SOCKET.fullmatch(socket.path):
            body = start["body"]
            for key in body.keys() - set(RTMED_FIELDS):
                self._notes.add(("testPlan",), f"{key}: rtmed's start request has no such field: left out")
            if rate not in {None, *RTMED_RATES}:
                hint = f"message_rate: one of {', '.join(str(each) for each in RTMED_RATES)}"
                self._notes.add((*socket.place, "messageRate"), f"messageRate {rate:g}/s: 10/s stands there", hint)
                rate = None
            known = {key: body[key] for key in RTMED_FIELDS if key in body}
            return {"name": "rtmed", **({"message_rate": int(rate)} if rate else {}), **known}
        hint = "say what is sent and where its audio is (send:, receive: of the dialect json, docs/scenario.md)"
        self._notes.add(socket.place, "messages are not described: {type: audio, audio: …} is assumed", hint)
        start = {"method": "POST", "path": start["path"], "body": start["body"]} if start else {}
        taken = [name for name in _EXPRESSION.findall(socket.path) if name not in self._variables]
        if start and taken:
            start["take"] = {name: name for name in taken}
        return {
            "name": "json",
            **({"frame_ms": round(1000 / rate)} if rate and 1 <= rate <= 100 else {}),
            **({"start": start} if start else {}),
            "socket": {"path": socket.path},
            "send": {"audio": {"type": "audio", "audio": "${audio}"}},
            "receive": {"by": "type", "messages": {"audio": {"audio": "audio"}}},
        }

    # --- texts ---

    def _path(self, url: str, place: Location) -> str | None:
        """Return the path of a URL, `{name}` as `${name}`; its address becomes the target."""
        host = re.match(r"(\w+://)?\$\{(\w+)\}", url)
        whole = _URL.fullmatch(url)
        path = url[host.end() :] if host else (whole[3] or "/") if whole else url
        if host:
            name = host[2]
            self._notes.add(
                place, f"the address is ${{{name}}}: the target is the embedded agent", f'--target "${name}"', once=True
            )
        elif not self._target and whole and whole[2]:
            self._target = f"{(whole[1] or 'https').replace('ws', 'http')}://{whole[2]}"
        found = self._text(path or "/", place)
        return None if found is None else re.sub(r"(?<!\$)\{(\w+)\}", r"${\1}", found)

    def _text(self, text: str, place: Location, name: str = "value") -> str | None:
        """Return a text with the variables of a scenario; None, and a note, where there is no counterpart."""
        phone = _PHONE.fullmatch(text)
        if phone is not None and int(phone[3]) == 10 ** len(phone[3]) - 1:
            self._variables[name] = {"random_phone": {"prefix": phone[1], "digits": len(phone[3])}}
            return f"${{{name}}}"
        pieces, end = [], 0
        for match in _EXPRESSION.finditer(text):
            if not re.fullmatch(r"[A-Za-z_]\w*", match[1]) or match[1].startswith("__"):
                hint = "a variable (random_phone, csv, choice, env) under variables: in the scenario"
                self._notes.add(place, f"{match[0]} has no counterpart", hint)
                return None
            ours = match[1].lower()
            self._variables[ours] = {"env": match[1]}
            pieces += [text[end : match.start()].replace("$", "$$"), f"${{{ours}}}"]
            end = match.end()
        return "".join([*pieces, text[end:].replace("$", "$$")])
