"""Voice calls among a Locust user's own HTTP users: a class for locustfiles.

    from voxload.locust import VoiceUser

    class Caller(VoiceUser):
        scenario = "scenario.yaml"

Each spawned user is one caller who calls again and again; Locust shapes how many there are. The calls are placed by a
shard of voxload beside each Locust process, with the scenario's script, dialect and personas (of its `load:` only the
pause between calls counts). Locust shows our figures; when the test stops, `results/RUN/` is written as by
`voxload run`, and the verdict becomes Locust's exit code.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Any, ClassVar

import gevent
import msgspec
from gevent.event import Event
from locust import User, events, task
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from voxload.clock import monotonic_ns
from voxload.engine import wire
from voxload.errors import BadInputError, Problem, VoxloadError
from voxload.locust.book import Book
from voxload.measure.snapshot import Snapshot
from voxload.model.plan import encode_plan
from voxload.model.scenario import TWIN_TARGET
from voxload.runners.locust.figures import show
from voxload.runners.locust.shards import ShardPool
from voxload.runners.prepare import Prepared, prepare

SNAPSHOT, ENDED, STOP, REFUSED = "voxload_snapshot", "voxload_ended", "voxload_stop", "voxload_refused"
"""Types of the messages between workers and master."""
STOP_TIMEOUT_S = 15.0
SHARDS_MAX = 4096
"""Shards of all workers together: call k of shard i has the index i + k · SHARDS_MAX, so that no two are the same."""


class VoiceUser(User):
    """One caller; subclass it once and name the scenario. Locust's `--host` overrides the scenario's target."""

    abstract = True
    scenario: ClassVar[str]
    """Path of the scenario file."""
    results: ClassVar[str] = "results"
    """Folder for the run's results, on the master or the single process."""

    def on_start(self) -> None:
        """Add a caller."""
        _state(self.environment).change_callers(1)

    def on_stop(self) -> None:
        """Take a caller away: it hangs up."""
        _state(self.environment).change_callers(-1)

    @task
    def call(self) -> None:
        """The shard does the calling; this greenlet only waits."""
        Event().wait()


class _Callers:
    """The shard that places the calls of this process's users."""

    def __init__(self, prepared: Prepared, shard: int, state: _State) -> None:
        self._state = state
        self._ready, self._final = Event(), Event()
        self._shards = ShardPool(self._said, self._gone)
        self._shards.prepare(encode_plan(prepared.plan), shard, 1, SHARDS_MAX)
        gevent.spawn(self._go)

    def _go(self) -> None:
        self._ready.wait()
        self._shards.tell(wire.Go(monotonic_ns(), callers_come_and_go=True))
        self.tell_count()

    def tell_count(self) -> None:
        """Tell the shard how many callers there are."""
        if self._ready.is_set():
            self._shards.tell(wire.Callers(self._state.count))

    def stop(self) -> None:
        """End the calls and wait for the last report."""
        self._shards.stop()
        self._final.wait(STOP_TIMEOUT_S)
        self._shards.end()

    def _said(self, shard: int, body: bytes) -> None:
        message = wire.decode_from_shard(body)
        if isinstance(message, wire.Prepared):
            self._ready.set()
        elif isinstance(message, wire.Failed):
            self._lost(shard, message.detail)
        elif isinstance(message, Snapshot):
            show(message, self._state.environment)
            self._state.report(body)
            if message.final:
                self._final.set()

    def _gone(self, shard: int, code: int) -> None:
        if not self._final.is_set():
            self._lost(shard, f"its process has ended with code {code}")

    def _lost(self, shard: int, reason: str) -> None:
        print(f"voxload: shard {shard}: {reason}", file=sys.stderr)
        self._state.report(msgspec.msgpack.encode(wire.Failed(shard, reason)))
        self._ready.set()
        self._final.set()


class _State:
    """What belongs to one Locust environment in this process: its callers, and the book where it is kept."""

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.callers: _Callers | None = None
        self.book: Book | None = None
        self.count = 0
        """Callers of this process."""
        self.workers: set[str] = set()
        """On the master: the workers that have taken part in the test."""
        self.ended: set[str] = set()
        self.refused: dict[str, str] = {}
        """On the master: why workers could not take part."""
        self.begins_after_init = False
        """A worker that joins in the middle of a test is told to begin while Locust still sets it up."""

    def change_callers(self, by: int) -> None:
        """Have one caller more or fewer."""
        self.count = max(self.count + by, 0)
        if self.callers is not None:
            self.callers.tell_count()

    def prepared(self, user: type[VoiceUser]) -> Prepared | None:
        """Return the scenario of a user class, its load left to Locust; None, and Locust ends, when it is wrong."""
        try:
            prepared = prepare(user.scenario, target=user.host or self.environment.host or None, environ=os.environ)
            if prepared.scenario.target == TWIN_TARGET:
                hint = "start `voxload twin` and give its address with --host"
                raise BadInputError([Problem("target: twin cannot be shared by Locust's processes", suggestion=hint)])
        except VoxloadError as error:
            print(f"voxload: {error}", file=sys.stderr)
            self.environment.process_exit_code = int(error.exit_code)
            if isinstance(self.environment.runner, WorkerRunner):
                self.environment.runner.send_message(REFUSED, {"reason": str(error)})
            gevent.spawn(self.environment.runner.quit)
            return None
        pause_s = getattr(prepared.scenario.load, "pause_ns", 0) / 1e9
        load = {"shape": "concurrency", "concurrency": 1, "duration": "8760h", "pause": pause_s}
        plan = msgspec.structs.replace(prepared.plan, scenario={**prepared.plan.scenario, "load": load})
        return replace(prepared, plan=plan)

    # --- what shards say ---

    def report(self, body: bytes) -> None:
        """Hand a shard's message to whoever keeps the book: the master, or this process."""
        if isinstance(self.environment.runner, WorkerRunner):
            self.environment.runner.send_message(SNAPSHOT, {"word": body})
        else:
            self.take(body)

    def take(self, body: bytes) -> None:
        """Enter a shard's message into the book."""
        if self.book is not None:
            self.book.take(wire.decode_from_shard(body))

    # --- the test ---

    def begin(self, user: type[VoiceUser]) -> None:
        """Open the book, on the master or the single process; start the shard, on workers or the single process."""
        runner = self.environment.runner
        prepared = self.prepared(user)
        if prepared is None:
            return
        self.ended.clear()
        if isinstance(runner, MasterRunner):
            self.workers = self._answering(runner)
        if not isinstance(runner, WorkerRunner):
            options = self.environment.parsed_options
            self.book = Book(prepared, user.results, getattr(options, "run_time", None) or 0.0)
        if not isinstance(runner, MasterRunner):
            self.callers = _Callers(prepared, max(getattr(runner, "worker_index", 0), 0), self)

    def end(self) -> None:
        """Gather the last reports and close the book."""
        runner = self.environment.runner
        if isinstance(runner, MasterRunner):
            runner.send_message(STOP, {})
            with gevent.Timeout(STOP_TIMEOUT_S, False):  # type: ignore[arg-type]  # as gevent documents it
                while not self._answering(runner) <= self.ended:
                    gevent.sleep(0.1)
        self.end_calls()
        book, self.book = self.book, None
        if book is not None:
            book.doubts += [
                f"Locust's worker {name} "
                + (f"could not begin: {why}" if (why := self.refused.get(name)) else "was lost")
                for name in sorted(self.workers - self.ended)
            ]
            self.environment.process_exit_code = int(book.close())

    @staticmethod
    def _answering(runner: MasterRunner) -> set[str]:
        """Return the workers from which an answer can come; one that is missing may come back, but nobody waits."""
        return {client.id for client in runner.clients.all if client.state != STATE_MISSING}

    def end_calls(self) -> None:
        """End this process's calls."""
        callers, self.callers = self.callers, None
        if callers is not None:
            callers.stop()


_states: dict[int, _State] = {}


def _state(environment: Any) -> _State:
    return _states.setdefault(id(environment), _State(environment))


def _voice_users(environment: Any) -> list[type[VoiceUser]]:
    return [user for user in environment.user_classes if issubclass(user, VoiceUser)]


# --- Locust's events --------------------------------------------------------------------------------------------------


def _on_init(environment: Any, runner: Any, **_: Any) -> None:
    users, state = _voice_users(environment), _state(environment)
    if len(users) > 1:
        names = ", ".join(user.__name__ for user in users)
        print(f"voxload: one VoiceUser a locustfile, not {names}: put the calls into one scenario", file=sys.stderr)
        environment.process_exit_code = 2
        gevent.spawn(runner.quit)
    if not users:
        return
    gevent.get_hub().loop.update_now()  # else `-t` counts from before the imports of the locustfile

    def joined(client_id: str, **_: Any) -> None:
        state.workers.add(client_id)

    def refuses(environment: Any, msg: Any) -> None:  # noqa: ARG001  # as below
        state.refused[msg.node_id] = msg.data["reason"]

    def end_here(environment: Any, msg: Any) -> None:  # noqa: ARG001  # Locust's names
        state.end_calls()
        environment.runner.send_message(ENDED, {})

    if isinstance(runner, WorkerRunner):
        runner.register_message(STOP, end_here, concurrent=True)
        if state.begins_after_init:
            state.begin(users[0])
    elif isinstance(runner, MasterRunner):
        events.worker_connect.add_listener(joined)  # type: ignore[no-untyped-call]
        runner.register_message(SNAPSHOT, lambda environment, msg: state.take(msg.data["word"]))  # noqa: ARG005
        runner.register_message(REFUSED, refuses)
        runner.register_message(ENDED, lambda environment, msg: state.ended.add(msg.node_id))  # noqa: ARG005


def _on_test_start(environment: Any, **_: Any) -> None:
    users = _voice_users(environment)
    if users and environment.runner is None:
        _state(environment).begins_after_init = True
    elif users:
        _state(environment).count = 0
        _state(environment).begin(users[0])


def _on_test_stop(environment: Any, **_: Any) -> None:
    if not isinstance(environment.runner, WorkerRunner):  # workers wait for the master's word
        _state(environment).end()


events.init.add_listener(_on_init)  # type: ignore[no-untyped-call]
events.test_start.add_listener(_on_test_start)  # type: ignore[no-untyped-call]
events.test_stop.add_listener(_on_test_stop)  # type: ignore[no-untyped-call]
