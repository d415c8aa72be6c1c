"""Peer: Locust with websocket-client, a User a call, as Locust's own examples and forums do it.

Importing Locust patches the process for gevent; each call is a greenlet that sends and sleeps with `gevent.sleep` to
its next deadline, and in a duplex call a second greenlet that reads. Locust runs as a library without its web page.

Chosen in its favour: no `events.request` for each frame, which users do fire to see frames in the statistics (it costs
several µs); payloads encoded once; `skip_utf8_validation=True`, which the README of websocket-client advises for speed;
the garbage collector frozen after the set-up. wsaccel, which that README calls unmaintained and worth about 10 % of the
masking, is used if it is installed. Received frames are counted and dropped, not decoded.
"""

from __future__ import annotations

# isort: off
from locust import User, constant, task  # first: it patches the standard library
from locust.env import Environment
# isort: on

import sys
from typing import ClassVar

import gevent  # type: ignore[import-untyped]  # no stubs
import websocket
from gevent.event import Event  # type: ignore[import-untyped]  # no stubs

from benchmarks.harness import SETTLE_S, SETUP_S_MAX, Frames, Job, Result, Tally, leave, read_job
from voxload.clock import NS_PER_MS, NS_PER_S, monotonic_ns
from voxload.process import freeze_garbage

SPAWN_RATE_PER_S = 100
"""Users started a second; Locust's manual warns of more on one core."""


class Shared:
    """What the users of the process share."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.tally = Tally(job, "locust")
        self.frames = Frames(job)
        self.started = self.opened = 0
        self.all_open = Event()
        self.go = Event()
        self.start_ns = 0


class VoiceUser(User):
    """One caller."""

    wait_time = constant(0)
    shared: ClassVar[Shared]

    @task
    def call(self) -> None:
        """Place one call that lasts until the end of the run."""
        shared = self.shared
        number = shared.started
        shared.started += 1
        try:
            socket = websocket.create_connection(shared.job.socket_url(number), timeout=None, skip_utf8_validation=True)
            shared.opened += 1
            if shared.opened == shared.job.calls:
                shared.all_open.set()
            reader = gevent.spawn(self._read, socket) if shared.job.duplex else None
            shared.go.wait()
            self._speak(socket, shared.job.first_due_ns(number, shared.start_ns))
            del reader
        except (OSError, websocket.WebSocketException) as error:
            shared.tally.failed(error)
            gevent.sleep(3600)  # one failure is enough; do not call again

    def _speak(self, socket: websocket.WebSocket, due_ns: int) -> None:
        shared = self.shared
        prepared, session, lateness = shared.frames.prepared, shared.frames.session, shared.tally.lateness
        period_ns, sequence = shared.job.period_ns, 0
        while True:
            gevent.sleep(max(due_ns - monotonic_ns(), 0) / NS_PER_S)
            now_ns = monotonic_ns()
            lateness.append(now_ns - due_ns)
            socket.send(session.stamp(prepared, sequence, now_ns))
            sequence += 1
            due_ns += period_ns

    def _read(self, socket: websocket.WebSocket) -> None:
        tally = self.shared.tally
        try:
            while True:
                socket.recv_data()
                tally.frames_in += 1
        except (OSError, websocket.WebSocketException) as error:
            tally.failed(error)


def run(job: Job) -> Result:
    """Open all calls, let them settle, measure."""
    shared = VoiceUser.shared = Shared(job)
    environment = Environment(user_classes=[VoiceUser], events=None)
    runner = environment.create_local_runner()
    runner.start(job.calls, spawn_rate=SPAWN_RATE_PER_S)
    if not shared.all_open.wait(SETUP_S_MAX + job.calls / SPAWN_RATE_PER_S):
        return shared.tally.gave_up()
    freeze_garbage()
    shared.start_ns = monotonic_ns() + 100 * NS_PER_MS
    shared.go.set()
    gevent.sleep(0.1 + SETTLE_S)
    shared.tally.open()
    gevent.sleep(job.seconds)
    return shared.tally.close()


def main() -> int:
    """Entry point."""
    run(read_job("locust")).print()
    leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
