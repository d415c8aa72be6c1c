"""An Artillery test script as a scenario: phases, flows over a WebSocket, variables, payloads and what it ensures.

Format: artillery.io/docs, "Test script reference" and "WebSocket engine"; the step `ws:` inside an HTTP flow, which
Artillery itself does not know, is read as well.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from voxload.errors import BadInputError, Problem
from voxload.importers.artillery_flow import Flow, FlowReader, Protocol
from voxload.importers.artillery_load import in_seconds, number, read_ensure, read_phases
from voxload.importers.artillery_text import Texts
from voxload.importers.notes import Imported, Notes
from voxload.model.source import Location, Source, read_bytes, read_source

LIVE_PLUGINS = {
    "azure-metrics": "voxload run --azure-monitor, or telemetry: {azure_monitor: true}",
    "publish-metrics": "voxload run --otlp URL, --prometheus HOST:PORT or --azure-monitor",
}
"""What takes the place of plugins that send figures while a test goes on."""
RTMED_START, RTMED_SOCKET = "/api/v1/calls/start", "/ws/call/${session_id}"
CONFIG_KEYS = {
    "target",
    "phases",
    "variables",
    "payload",
    "ensure",
    "plugins",
    "http",
    "ws",
    "tls",
    "defaults",
    "engines",
}


def import_artillery(path: str | Path) -> Imported:
    """Translate an Artillery file.

    Raises:
        BadInputError: it cannot be read, or there is no call in it: no flow opens a WebSocket, no phase places load.
    """
    source = read_source(path)
    if not isinstance(source.data, dict) or not isinstance(source.data.get("scenarios"), list):
        hint = "an Artillery script has config: and scenarios:"
        raise BadInputError([Problem("no scenarios: this is no Artillery script", source.file, 1, hint)])
    return _Importer(source).run()


class _Importer:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._data: dict[str, Any] = source.data
        config = source.data.get("config")
        self._config: dict[str, Any] = config if isinstance(config, dict) else {}
        self._notes = Notes(source)
        self._texts = Texts(self._notes)
        self._imported = Imported({})

    def run(self) -> Imported:
        """Translate the whole file."""
        calls, requests, protocol = self._scenarios()
        stages, calls_max = read_phases(self._config.get("phases") or [], ("config", "phases"), self._notes)
        problems = []
        if not calls:
            hint = "a call needs a flow with ws: or connect:, and messages with audio in it"
            problems.append(Problem("no flow holds a call", self._source.file, self._source.line(("scenarios",)), hint))
        if not any(stage["arrival_rate"] or stage.get("ramp_to") for stage in stages):
            line = self._source.line(("config", "phases"))
            hint = "phases: [{duration: 60, arrivalRate: 5}]"
            problems.append(Problem("no phase places a call", self._source.file, line, hint))
        if problems:
            raise BadInputError([*problems, *self._notes.found])
        gates = self._gates("http_latency" if requests else "call_setup")
        dialect = self._dialect(protocol)
        headers = self._headers()
        variables = self._variables()  # the last: the other parts need some of their own
        parts: dict[str, Any] = {
            "version": 1,
            "name": Path(self._source.file).stem[:120],
            "target": self._target(),
            "dialect": dialect,
            "variables": variables,
            "headers": headers,
            "load": {"shape": "stages", "stages": stages},
            "calls": calls,
            "side_traffic": {"requests": requests} if requests else None,
            "gates": gates,
            "measurement": {"calls_max": calls_max} if calls_max else None,
            **self._connection(),
        }
        self._left_out()
        self._imported.scenario = {name: value for name, value in parts.items() if value}
        self._imported.notes = self._notes.found
        return self._imported

    # --- scenarios ---

    def _scenarios(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Protocol]:
        calls: list[dict[str, Any]] = []
        requests: list[dict[str, Any]] = []
        protocol: Protocol | None = None
        for position, item in enumerate(self._data["scenarios"]):
            place: Location = ("scenarios", position)
            if not isinstance(item, dict):
                self._notes.add(place, "a scenario is a mapping with flow:")
                continue
            flow = self._flow(item, place)
            weight = number(item.get("weight", 1))
            if not weight:
                self._notes.add((*place, "weight"), f"weight: {item['weight']!r}: the scenario is left out")
                continue
            weight = int(weight) if weight == int(weight) else weight
            requests += [{**request, **({"weight": weight} if weight != 1 else {})} for request in flow.requests]
            if not flow.opens_socket:
                if flow.protocol.start is not None:
                    words = f"{flow.protocol.start['path']}: beside a call only GET requests are made"
                    self._notes.add(place, words, "component tests, or get")
                if flow.requests:
                    self._notes.add(place, "no WebSocket: its GET requests are made beside the calls, not as users")
                continue
            if not flow.script:
                self._notes.add(place, "nothing is said in its flow: left out")
                continue
            if protocol is None:
                protocol = flow.protocol
            elif protocol.socket != flow.protocol.socket:
                self._notes.add(place, "it opens another socket: a run speaks one protocol", "a scenario of its own")
                continue
            name = re.sub(r"\W+", "_", str(item.get("name") or f"scenario{position + 1}").lower()).strip("_")
            name = name if name[:1].isalpha() else f"call_{name}"
            while name in {call["name"] for call in calls}:
                name += "_again"
            calls.append({"name": name, **({"weight": weight} if weight != 1 else {}), "script": flow.script})
        return calls, requests, protocol or Protocol()

    def _flow(self, item: dict[str, Any], place: Location) -> Flow:
        engine = item.get("engine", "http")
        reader = FlowReader(self._notes, self._texts)
        if engine == "ws":
            reader.flow.opens_socket = True
            url = str(self._config.get("target", ""))
            reader.flow.protocol.socket = re.sub(r"^\w+://[^/]*", "", url)
        elif engine != "http":
            self._notes.add((*place, "engine"), f"engine {engine}: only http and ws are brought over")
            return reader.flow
        for key in item.keys() - {"name", "weight", "engine", "flow"}:
            self._notes.add((*place, key), f"{key}: not brought over")
        return reader.read(item.get("flow"), (*place, "flow"))

    # --- config ---

    def _target(self) -> str:
        written = str(self._config.get("target") or "")
        place: Location = ("config", "target")
        match = re.match(r"(http|https|ws|wss)://([^/]+)", written)
        if match is None or "{{" in match[2]:
            self._notes.add(place, f"target {written!r} is no address", "--target URL")
            return "twin"
        return f"{match[1].replace('ws', 'http')}://{match[2]}"

    def _variables(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        written = self._config.get("variables")
        for name, value in (written if isinstance(written, dict) else {}).items():
            if isinstance(value, list) and value:
                found[name] = {"choice": [str(item) for item in value]}
            elif isinstance(value, str | int | float) and not isinstance(value, bool):
                found[name] = value
            else:
                self._notes.add(("config", "variables", name), f"{name}: only texts, numbers and lists of them")
        payloads = self._config.get("payload") or []
        for position, payload in enumerate(payloads if isinstance(payloads, list) else [payloads]):
            place: Location = ("config", "payload", position) if isinstance(payloads, list) else ("config", "payload")
            if isinstance(payload, dict) and payload.get("path"):
                found |= self._payload(payload, place)
            else:
                self._notes.add(place, "a payload needs a path")
        return {**found, **self._texts.variables}

    def _payload(self, payload: dict[str, Any], place: Location) -> dict[str, Any]:
        """Return a variable for each column; a file without a header goes beside the scenario with one."""
        path = Path(self._source.file).parent / str(payload["path"])
        for key in payload.keys() - {"path", "fields", "order", "skipHeader", "delimiter", "cast", "name"}:
            self._notes.add((*place, key), f"{key}: not brought over", "a csv variable draws one row for each call")
        try:
            text = read_bytes(path).decode("utf-8-sig", "replace")
        except BadInputError as error:
            self._notes.add((*place, "path"), f"{error.problems[0].message}: {payload['path']}")
            return {}
        delimiter = str(payload.get("delimiter") or ",")[:1]
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        if payload.get("skipHeader"):
            rows = rows[1:]
        written = payload.get("fields")
        fields = [str(name) for name in written] if isinstance(written, list) else []
        if not fields:
            self._notes.add(place, "a payload without fields: nothing of it is used")
            return {}
        name = f"{path.stem}-with-header.csv"
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(fields)
        writer.writerows(row[: len(fields)] for row in rows if row)
        self._imported.files[name] = stream.getvalue().encode()
        pick = "sequential" if payload.get("order") == "sequence" else "random"
        if len(fields) > 1 and pick == "random":
            self._notes.add(
                place, "columns are drawn each by itself: values of one row do not stay together", "order: sequence"
            )
        return {column: {"csv": {"file": name, "column": column, "pick": pick}} for column in fields}

    def _headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        places: list[Location] = [("http", "defaults", "headers"), ("defaults", "headers"), ("ws", "headers")]
        for place in places:
            part: Any = self._config
            for key in place:
                part = part.get(str(key)) if isinstance(part, dict) else None
            for name, value in part.items() if isinstance(part, dict) else ():
                text = self._texts.translate(str(value), ("config", *place, name), re.sub(r"\W", "_", name))
                if text is not None:
                    found[name] = text
        return found

    def _connection(self) -> dict[str, Any]:
        http, ws, tls = (self._config.get(name) or {} for name in ("http", "ws", "tls"))
        found: dict[str, Any] = {}
        timeout = number(http.get("timeout")) if isinstance(http, dict) else None
        if timeout:
            found["timeouts"] = {"connect": in_seconds(timeout)}
        if any(part.get("rejectUnauthorized") is False for part in (ws, tls) if isinstance(part, dict)):
            found["tls"] = {"insecure": True}
        return found

    def _gates(self, http_metric: str) -> list[str | dict[str, str]]:
        plugins = self._config.get("plugins")
        found = read_ensure(self._config.get("ensure"), ("config", "ensure"), self._notes, http_metric)
        if isinstance(plugins, dict):
            found += read_ensure(plugins.get("ensure"), ("config", "plugins", "ensure"), self._notes, http_metric)
        if any(f"({http_metric})" in str(gate) for gate in found) and http_metric == "call_setup":
            self._notes.add(
                ("config",), "http.response_time is call_setup here, which holds the WebSocket's handshake too"
            )
        return found

    def _dialect(self, protocol: Protocol) -> dict[str, Any]:
        """Return the dialect: `rtmed` where the paths are its own, else `json` with what the flow tells of it."""
        start = protocol.start or {}
        if start.get("path") == RTMED_START and protocol.socket == RTMED_SOCKET:
            body = start.get("body", {})
            for key in body.keys() - {"agent_type", "caller_number", "language"}:
                self._notes.add(("scenarios",), f"{key}: rtmed's start request has no such field: left out")
            if protocol.connect:
                self._notes.add(("scenarios",), "messages before the first audio: rtmed has none, left out")
            known = {key: body[key] for key in ("agent_type", "caller_number", "language") if key in body}
            return {"name": "rtmed", **known}
        socket = {"path": protocol.socket or "/"}
        if protocol.subprotocol:
            socket["subprotocol"] = protocol.subprotocol
        send: dict[str, Any] = {"connect": protocol.connect} if protocol.connect else {}
        if protocol.audio is None:
            self._notes.add(("scenarios",), "no message holds audio: {type: audio, data: …} is assumed", "send.audio")
        send["audio"] = protocol.audio or {"type": "audio", "data": "${audio}"}
        if protocol.end_of_speech:
            send["end_of_speech"] = protocol.end_of_speech
        rule = protocol.awaited or "audio"
        hint = "say where its audio is (receive: of the dialect json, docs/scenario.md)"
        self._notes.add(
            ("scenarios",), f"Artillery does not look at what is heard: audio in the message {rule!r} is assumed", hint
        )
        receive = {"by": protocol.by or "type", "messages": {rule: {"audio": "audio"}}}
        return {
            "name": "json",
            **({"start": start} if start else {}),
            "socket": socket,
            "send": send,
            "receive": receive,
        }

    def _left_out(self) -> None:
        known = {
            "ensure": "",
            "expect": "answers are not compared",
            "metrics-by-endpoint": "reports name requests anyway",
            **dict.fromkeys(LIVE_PLUGINS, "figures leave a run otherwise"),
        }
        plugins = self._config.get("plugins")
        for name in plugins if isinstance(plugins, dict) else ():
            if name != "ensure":
                reason = known.get(name, "plugins do not run here")
                hint = LIVE_PLUGINS.get(name, "reports: results/RUN/, junit.xml, --requests; docs/how-to.md")
                self._notes.add(("config", "plugins", name), f"plugin {name}: {reason}", hint)
        for key in self._config.keys() - CONFIG_KEYS:
            hint = {"environments": "voxload.toml", "processor": "no code runs in a scenario"}.get(key, "")
            self._notes.add(("config", key), f"config.{key}: not brought over", hint)
        for key in self._data.keys() - {"config", "scenarios"}:
            self._notes.add((key,), f"{key}: not brought over")
