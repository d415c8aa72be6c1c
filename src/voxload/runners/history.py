"""The history of runs: an SQLite file beside their folders, written at the end of each run by any number of writers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from voxload.errors import BadInputError, Problem
from voxload.measure.summary import Summary
from voxload.model.metric import METRICS
from voxload.verdict.gate import PROBE
from voxload.verdict.regression import display
from voxload.verdict.subject import figures_of, subject_of_run

HISTORY_FILE = "history.db"
HISTORY_VERSION = 1
APPLICATION_ID = 0x766F786C  # "voxl"
LOCK_WAIT_S = 30.0
"""How long a writer waits for another one."""

_SCHEMA = """
CREATE TABLE runs (
  run_id TEXT PRIMARY KEY, scenario TEXT NOT NULL, fingerprint TEXT NOT NULL, started_at TEXT NOT NULL,
  git_branch TEXT NOT NULL, git_commit TEXT NOT NULL, target TEXT NOT NULL, verdict TEXT NOT NULL,
  calls INTEGER NOT NULL, duration_s REAL NOT NULL, voxload_version TEXT NOT NULL, folder TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX runs_by_time ON runs (started_at);
CREATE TABLE figures (
  run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, figure TEXT NOT NULL, value REAL NOT NULL,
  unit TEXT NOT NULL, observations INTEGER NOT NULL, PRIMARY KEY (run_id, figure)
) WITHOUT ROWID;
"""


class HistoryRun(NamedTuple):
    """A run as the history has it; the fields are the columns of its table."""

    run_id: str
    scenario: str
    fingerprint: str
    """Of the scenario's parts that decide what the calls are: runs with the same one belong to one series."""
    started_at: str
    git_branch: str
    git_commit: str
    target: str
    verdict: str
    calls: int
    duration_s: float
    voxload_version: str
    folder: str


class HistoryFigure(NamedTuple):
    """One figure of a run."""

    run_id: str
    figure: str
    value: float
    unit: str
    observations: int


class Choice(NamedTuple):
    """Which runs are wanted; empty: all."""

    scenario: str = ""
    branch: str = ""
    since: str = ""
    """ISO 8601 in UTC; runs that began then or later."""


class History:
    """The store. Every method opens the file, does its work in one transaction, and closes it.

    Raises (all methods):
        BadInputError: the file is damaged, is something else, or is of another version; or it is locked for too long.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, summary: Summary, folder: str) -> bool:
        """Keep a run; returns False, and changes nothing, when it is there already."""
        run = _run_of(summary, folder)
        with self._open(write=True) as connection:
            places = ", ".join("?" * len(HistoryRun._fields))
            added = connection.execute(f"INSERT OR IGNORE INTO runs VALUES ({places})", run).rowcount  # noqa: S608
            if added:
                connection.executemany("INSERT INTO figures VALUES (?, ?, ?, ?, ?)", _figures_of(summary))
        return bool(added)

    def runs(self, choice: Choice = Choice()) -> list[HistoryRun]:  # noqa: B008  # an immutable tuple
        """Return the runs, the oldest first."""
        if not self.path.exists():
            return []
        condition, values = _where(choice)
        with self._open() as connection:
            rows = connection.execute(f"SELECT * FROM runs {condition} ORDER BY started_at, run_id", values)  # noqa: S608
            return [HistoryRun(*row) for row in rows]

    def figures(self, choice: Choice = Choice()) -> list[HistoryFigure]:  # noqa: B008  # as above
        """Return the figures of the runs, the oldest run first."""
        if not self.path.exists():
            return []
        condition, values = _where(choice)
        query = (
            f"SELECT figures.* FROM figures JOIN runs USING (run_id) {condition} ORDER BY started_at, run_id, figure"  # noqa: S608
        )
        with self._open() as connection:
            return [HistoryFigure(*row) for row in connection.execute(query, values)]

    def prune(self, before: str) -> int:
        """Forget the runs that began before an instant (ISO 8601 in UTC); returns how many those were."""
        if not self.path.exists():
            return 0
        with self._open(write=True) as connection:
            return connection.execute("DELETE FROM runs WHERE started_at < ?", (before,)).rowcount

    @contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            connection = sqlite3.connect(self.path, timeout=LOCK_WAIT_S, isolation_level=None)
            connection.execute("PRAGMA foreign_keys = ON")
            # the lock is taken before anything is read, so that two writers never wait for each other
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            self._prepare(connection, write)
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            hint = "move it away and make it anew: voxload history import results/*"
            raise BadInputError([Problem(f"the history cannot be used: {error}", str(self.path), 0, hint)]) from None
        finally:
            if connection is not None:
                connection.close()

    def _prepare(self, connection: sqlite3.Connection, write: bool) -> None:
        """Make the tables of a new file, or see that it is one of ours."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and write:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {HISTORY_VERSION}")
        elif tables and application != APPLICATION_ID:
            raise BadInputError([Problem("an SQLite file, but no history of voxload", str(self.path))])
        elif tables and version != HISTORY_VERSION:
            hint = f"this voxload reads version {HISTORY_VERSION}"
            raise BadInputError([Problem(f"history of version {version}", str(self.path), 0, hint)])
        elif not tables:
            raise BadInputError([Problem("the history is empty", str(self.path), 0, "voxload run writes to it")])


def _where(choice: Choice) -> tuple[str, Sequence[str]]:
    terms = [("scenario = ?", choice.scenario), ("git_branch = ?", choice.branch), ("started_at >= ?", choice.since)]
    given = [(term, value) for term, value in terms if value]
    condition = "WHERE " + " AND ".join(term for term, _ in given) if given else ""
    return condition, [value for _, value in given]


def _run_of(summary: Summary, folder: str) -> HistoryRun:
    run, environment = summary.run, summary.run.environment
    return HistoryRun(
        run_id=run.run_id,
        scenario=run.scenario,
        fingerprint="-".join(summary.plan.fingerprint.values()),
        started_at=run.started_at,
        git_branch=environment.get("git_branch", ""),
        git_commit=environment.get("git_commit", ""),
        target=run.target,
        verdict=summary.verdict.status,
        calls=summary.totals.attempted,
        duration_s=run.duration_s,
        voxload_version=run.voxload_version,
        folder=folder,
    )


def _figures_of(summary: Summary) -> list[HistoryFigure]:
    subject = subject_of_run(summary, None)
    figures = [figure for metric in subject.metrics() for figure in figures_of(metric)]
    figures += [
        figure
        for probe, metric in subject.probe_metrics()
        if probe not in subject.probe_doubts  # a moved figure would be its own, not the service's
        for figure in figures_of(metric, ((PROBE, probe),))
    ]
    kept = []
    for figure, (value, count) in subject.values(figures).items():
        if value is not None:
            factor, unit = display(figure.metric)
            kept.append(HistoryFigure(summary.run.run_id, str(figure), value * factor, unit, count))
    for name, level in summary.levels.items():
        if name in METRICS and name not in {item.figure for item in kept}:
            kept.append(HistoryFigure(summary.run.run_id, name, level, METRICS[name].unit, 1))
    return kept
