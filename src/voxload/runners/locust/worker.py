"""The worker's process: a Locust worker that owns the shards of one machine.

Run by `voxload.start` with `[--until-input-ends] HOST PORT PROCESSES REGION [ADDRESS ...]`.
It stops its calls when the master is gone; one that the command itself started leaves with it, at the end of its input.
"""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
from typing import Any

import gevent
import locust.runners
from gevent.event import Event
from gevent.fileobject import FileObject
from locust import User, events, task
from locust.env import Environment
from locust.runners import WorkerRunner

from voxload import __version__
from voxload.clock import monotonic_ns
from voxload.engine import wire
from voxload.measure.snapshot import Snapshot
from voxload.runners.locust.figures import show
from voxload.runners.locust.shards import ShardPool
from voxload.runners.locust.silence import Silence
from voxload.runners.locust.words import (
    FROM_WORKER,
    TO_WORKER,
    Assign,
    GoIn,
    Hello,
    decode_to_worker,
    encode,
)

MASTER_SILENT_S = 10.0
"""Without a heartbeat of the master for so long the calls are stopped."""
NO_MASTER = 3
"""Exit code."""
UNTIL_INPUT_ENDS = "--until-input-ends"
HELLO_S = 1.0
"""Between two greetings, until the master has a task for us."""


class Callers(User):
    """All callers of this worker, as Locust sees them: the shards place the calls."""

    @task
    def wait(self) -> None:
        """Locust shows a user for each worker that takes part."""
        Event().wait()


class Worker:
    """Obeys the master: prepare shards, go, stop."""

    def __init__(self, processes: int, region: str, source_addresses: tuple[str, ...]) -> None:
        self._hello = Hello(platform.node(), processes, region, __version__, source_addresses)
        self._pool = ShardPool(self._said, self._gone)
        self._assigned = False
        self._final: set[int] = set()
        self._runner: WorkerRunner | None = None
        self._environment = Environment(user_classes=[Callers], events=events)
        self.over = Event()
        """Set when there is nothing more to do here."""

    def serve(self, host: str, port: int, until_input_ends: bool = False) -> int:
        """Take part in one run; returns the process's exit code."""
        if until_input_ends:
            gevent.spawn(self._await_end_of_input)
        try:
            runner = self._runner = self._environment.create_worker_runner(host, port)
        except Exception as error:  # noqa: BLE001  # Locust raises bare exceptions when it finds no master
            print(f"voxload worker: no master at {host}:{port}: {error}", file=sys.stderr)
            return NO_MASTER
        runner.register_message(TO_WORKER, self._on_word)
        events.quitting.add_listener(lambda **_: self.over.set())  # type: ignore[no-untyped-call]
        greeter, watcher = gevent.spawn(self._greet), gevent.spawn(self._watch, runner)
        for number in (signal.SIGINT, signal.SIGTERM):
            gevent.signal_handler(number, self._interrupt)
        quitter = gevent.spawn(self._await_quit, runner)
        self.over.wait()
        gevent.killall([greeter, watcher, quitter])
        self._pool.end()
        runner.quit()
        return 0

    def _await_quit(self, runner: WorkerRunner) -> None:
        runner.greenlet.join()  # Locust ends its own greenlets when the master says quit
        self.over.set()

    def _await_end_of_input(self) -> None:
        FileObject(0, "rb", close=False).read()
        if self._runner is None:  # Locust looks for a master still, for minutes, and cannot be told to stop
            os._exit(NO_MASTER)
        self._interrupt()

    def _interrupt(self) -> None:
        """Ctrl-C: leave in good order; the run says that this worker has quit."""
        self._pool.stop()
        self.over.set()

    def _greet(self) -> None:
        while not self._assigned:
            self._send(encode(self._hello))
            gevent.sleep(HELLO_S)

    def _watch(self, runner: WorkerRunner) -> None:
        silence = Silence()
        while True:
            gevent.sleep(1)
            if silence.lasted_s(runner.last_heartbeat_timestamp, monotonic_ns()) > MASTER_SILENT_S:
                print("voxload worker: the master is gone, calls are stopped", file=sys.stderr)
                self._pool.stop()
                self.over.set()
                return

    def _on_word(self, environment: Any, msg: Any) -> None:  # noqa: ARG002  # Locust's names
        match decode_to_worker(msg.data["word"]):
            case Assign(plan=plan, first=first, count=count, shards=shards):
                self._assigned = True
                self._pool.prepare(plan, first, count, shards)
            case GoIn(delay_ns=delay_ns):
                self._pool.go(monotonic_ns() + delay_ns)
            case wire.Stop():
                self._pool.stop()

    def _said(self, shard: int, body: bytes) -> None:
        self._send(body)
        message = wire.decode_from_shard(body)
        if isinstance(message, Snapshot):
            if message.final:
                self._final.add(shard)
            show(message, self._environment)

    def _gone(self, shard: int, code: int) -> None:
        if shard not in self._final:
            self._send(encode(wire.Failed(shard, f"its process has ended with code {code} before its last report")))

    def _send(self, word: bytes) -> None:
        if self._runner is not None:
            self._runner.send_message(FROM_WORKER, {"word": word})


def main() -> int:
    """Entry point."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    logging.getLogger("locust").setLevel(logging.ERROR)
    locust.runners.MASTER_HEARTBEAT_TIMEOUT = 10**9  # s; it counts by the wall clock, which may be set: we watch
    words = sys.argv[1:]
    until_input_ends = words[0] == UNTIL_INPUT_ENDS
    host, port, processes, region, *addresses = words[1:] if until_input_ends else words
    return Worker(int(processes), region, tuple(addresses)).serve(host, int(port), until_input_ends)


if __name__ == "__main__":
    sys.exit(main())
