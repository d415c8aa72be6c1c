"""What a look after the load means: whether the target serves calls again, and what it has not let go of."""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple

import msgspec

from voxload.measure.summary import CallRecord, HealthLook, Recovery, Summary
from voxload.model.outcome import Outcome

RECOVERY_METRICS = ("recovery_time", "leaked_sessions", "health_failures")


class RecoveryFinding(NamedTuple):
    """One thing that was found, in words; `unsure` where it could not be found out."""

    tone: Literal["good", "bad", "unsure"]
    title: str
    body: str


def with_recovery(summary: Summary, recovery: Recovery) -> Summary:
    """Return the summary with what was seen after the load; its metrics become levels of the run."""
    return msgspec.structs.replace(summary, recovery=recovery, levels={**summary.levels, **_levels(recovery)})


def _levels(recovery: Recovery) -> dict[str, float]:
    """Return the metrics that are known.

    A target that still had time when the look was cut short is not blamed, nor is one that was not as expected before
    the run either.
    """
    levels: dict[str, float] = {}
    if recovery.recovery_time_s is not None:
        levels["recovery_time"] = recovery.recovery_time_s
    last = last_looks(recovery)
    leaked = [leaked_sessions(recovery, look) for look in last if look.counts]
    known = [count for count in leaked if count is not None]
    if leaked and len(known) == len(leaked) and (not recovery.problem or not sum(known)):
        levels["leaked_sessions"] = sum(known)
    failures = sum(len(look.broken) for look in last)
    judged = not recovery.problem and not any(look.broken and broken_before(recovery, look) for look in last)
    if last and (judged or not failures):
        levels["health_failures"] = float(failures)
    return levels


def never_recovered(recovery: Recovery | None) -> str:
    """Return why there is no recovery time although it was waited for to the end; empty in all other cases."""
    if recovery is None or recovery.problem or recovery.recovery_time_s is not None or not recovery.probes:
        return ""
    return f"no probe call completed within {recovery.lasted_s:.0f} s"


def last_looks(recovery: Recovery) -> list[HealthLook]:
    """Return the last look at each endpoint."""
    return list({look.get: look for look in recovery.looks}.values())


def leaked_sessions(recovery: Recovery, look: HealthLook) -> float | None:
    """Return how many sessions an endpoint tells of beyond those before the run; None where either is not known."""
    before = next((first.sessions for first in recovery.before if first.get == look.get), None)
    if before is None or look.sessions is None:
        return None
    return max(look.sessions - before, 0.0)


def broken_before(recovery: Recovery, look: HealthLook) -> bool:
    """Return whether the endpoint was not as expected before the run."""
    return any(first.broken for first in recovery.before if first.get == look.get)


def settled(looks: list[HealthLook], recovery: Recovery) -> bool:
    """Return whether everything is as it should be: probes enough, and nothing wrong in the latest looks."""
    completed = sum(probe.outcome == Outcome.COMPLETED for probe in recovery.probes)
    healthy = all(not look.broken and not (look.counts and leaked_sessions(recovery, look)) for look in looks)
    return completed >= recovery.probes_wanted and healthy


def recovery_findings(recovery: Recovery) -> list[RecoveryFinding]:
    """Return what was found, in words with numbers."""
    found = []
    if recovery.problem:
        found.append(RecoveryFinding("unsure", "The look after the load was cut short", recovery.problem))
    if recovery.probes_wanted:
        found.append(_served(recovery))
    found += [finding for look in last_looks(recovery) for finding in _health(recovery, look)]
    return found


def _served(recovery: Recovery) -> RecoveryFinding:
    failed = [probe for probe in recovery.probes if probe.outcome != Outcome.COMPLETED]
    count, reasons = len(recovery.probes), _reasons(failed)
    if recovery.recovery_time_s is None:
        tried = f"{_counted(count, 'probe call')} failed ({reasons})" if count else "no probe call was placed"
        if never_recovered(recovery):
            body = f"Within {recovery.lasted_s:.0f} s after the last call the target served no other one: {tried}."
            return RecoveryFinding("bad", "The target did not recover", body)
        return RecoveryFinding("unsure", "Recovery is not known", f"In {recovery.lasted_s:.0f} s {tried}.")
    body = f"A probe call placed {recovery.recovery_time_s:.1f} s after the last call completed."
    if failed:
        body += f" Of {_counted(count, 'probe call')} {len(failed)} failed ({reasons})."
    else:
        body += f" {count} of {recovery.probes_wanted} probe calls completed."
    good = not failed and count >= recovery.probes_wanted
    return RecoveryFinding("good" if good else "unsure", "The target recovered", body)


def _health(recovery: Recovery, look: HealthLook) -> list[RecoveryFinding]:
    found = []
    leaked = leaked_sessions(recovery, look)
    if leaked:
        held = f"{look.sessions:g} of {look.of:g} slots" if look.of else f"{look.sessions:g} sessions"
        before = next((first.sessions for first in recovery.before if first.get == look.get), 0.0)
        body = f"{held} still held {look.at_s:.0f} s after the last call ({before:g} before the run; GET {look.get})."
        tone: Literal["bad", "unsure"] = "unsure" if recovery.problem else "bad"
        found.append(RecoveryFinding(tone, "Sessions are still held", body))
    elif leaked is not None:
        held = f"{look.sessions:g} held {look.at_s:.0f} s after the last call"
        body = f"{held}, no more than before the run (GET {look.get})."
        found.append(RecoveryFinding("good", "No session was leaked", body))
    elif look.counts and look.sessions is not None:
        body = f"GET {look.get} told no number before the run, so what it holds now ({look.sessions:g}) says nothing."
        found.append(RecoveryFinding("unsure", "Leaked sessions are not known", body))
    if look.broken:
        doubtful = bool(recovery.problem) or broken_before(recovery, look)
        when = f"{look.at_s:.0f} s after the last call" + (
            ", and before the run" if broken_before(recovery, look) else ""
        )
        body = f"GET {look.get}, {when}: {'; '.join(look.broken)}."
        found.append(RecoveryFinding("unsure" if doubtful else "bad", "Health is not as expected", body))
    return found


def _reasons(failed: list[CallRecord]) -> str:
    counts = Counter(f"{probe.outcome}: {probe.error}" if probe.error else probe.outcome for probe in failed)
    return "; ".join(f"{count} times {reason}" if count > 1 else reason for reason, count in counts.most_common(3))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
