"""The master's process: Locust's master, and a pipe between it and the command.

Run by `voxload.start` with BIND_HOST BIND_PORT [WEB_PORT]; the command speaks to it over standard
input and output (`voxload.runners.locust.words`). Its input's end ends it, and with it the workers.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import Any

import gevent
from gevent.fileobject import FileObject
from gevent.queue import Queue
from locust import User, events, task
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner

from voxload.runners.locust.shards import read_frame
from voxload.runners.locust.words import (
    FROM_WORKER,
    TO_WORKER,
    Begin,
    FromMaster,
    Joined,
    Left,
    Listening,
    MasterFailed,
    Quit,
    Said,
    Tell,
    decode_to_master,
    framed,
)

WATCH_S = 0.5


class Callers(User):
    """All callers of one worker, as Locust sees them: the shards place the calls."""

    @task
    def wait(self) -> None:
        """The master spawns no users."""


class Master:
    """Passes words on in both directions."""

    def __init__(self, output: int) -> None:
        self._out: Queue[FromMaster | None] = Queue()
        self._writer = gevent.spawn(self._write, FileObject(output, "wb", bufsize=0))
        self._runner: MasterRunner | None = None
        self._known: dict[str, str] = {}

    def serve(self, host: str, port: int, web_port: int | None) -> None:
        """Listen for workers and obey the command until it says `Quit` or is gone."""
        environment = Environment(user_classes=[Callers], events=events)
        runner = self._runner = environment.create_master_runner(host, port)
        runner.register_message(FROM_WORKER, self._on_word)
        events.worker_connect.add_listener(self._on_connect)  # type: ignore[no-untyped-call]
        web_url = ""
        if web_port is not None:
            environment.create_web_ui(host, web_port)
            web_url = f"http://{host}:{web_port}"
        self._out.put(Listening(port, web_url))
        gevent.spawn(self._watch, runner)
        self._obey(runner)
        runner.quit()
        self._out.put(None)
        self._writer.join(timeout=10)

    def fail(self, detail: str) -> None:
        """Say why there will be no run."""
        self._out.put(MasterFailed(detail))
        self._out.put(None)
        self._writer.join(timeout=10)

    def _obey(self, runner: MasterRunner) -> None:
        stream = FileObject(0, "rb", close=False)
        while True:
            body = read_frame(stream)
            word = None if body is None else decode_to_master(body)
            match word:
                case Tell(worker=worker, word=said):
                    if worker in runner.clients:
                        runner.send_message(TO_WORKER, {"word": said}, worker)
                case Begin(workers=workers):
                    gevent.spawn(runner.start, workers, workers)
                case Quit() | None:
                    return

    def _on_connect(self, client_id: str, **_: Any) -> None:
        self._out.put(Joined(client_id))

    def _on_word(self, environment: Any, msg: Any) -> None:  # noqa: ARG002  # Locust's names
        self._out.put(Said(msg.node_id, msg.data["word"]))

    def _watch(self, runner: MasterRunner) -> None:
        """Tell of workers that have gone or are not heard of any more."""
        while True:
            gevent.sleep(WATCH_S)
            now = {client.id: client.state for client in runner.clients.all}
            for worker in self._known:
                if worker not in now and self._known[worker] != STATE_MISSING:
                    self._out.put(Left(worker, "it has quit"))
            for worker, state in now.items():
                if state == STATE_MISSING and self._known.get(worker) != STATE_MISSING:
                    self._out.put(Left(worker, "nothing has been heard of it"))
            self._known = now

    def _write(self, stream: Any) -> None:
        while True:
            word = self._out.get()
            if word is None:
                return
            try:
                stream.write(framed(word))
            except OSError:  # the command is gone; the end of our input says so too
                return


def main() -> int:
    """Entry point."""
    output = os.dup(1)
    os.dup2(2, 1)  # a stray print must not break the framing
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    logging.getLogger("locust").setLevel(logging.ERROR)
    host, port, web = sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""
    master = Master(output)
    what, wanted = "the master", port
    try:
        chosen = port or free_port(host)
        probe(host, chosen)
        if web:
            what, wanted = "Locust's web view (--web-port)", int(web)
            probe(host, wanted)
        what, wanted = "the master", chosen
        master.serve(host, chosen, int(web) if web else None)
    except OSError as error:
        master.fail(f"{what} cannot listen on {host}:{wanted}: {error.strerror or error}")
        return 1
    return 0


def free_port(host: str) -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("" if host == "*" else host, 0))
        return int(found.getsockname()[1])


def probe(host: str, port: int) -> None:
    """Find out whether a port can be had; Locust would end the process without a word.

    Raises:
        OSError: it cannot.
    """
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(("" if host == "*" else host, port))


if __name__ == "__main__":
    sys.exit(main())
