"""What is counted: the calls of a run, the units of work of a component test, or those of a probe beside the calls."""

from __future__ import annotations

from typing import NamedTuple

from voxload.measure.recorder import Labels


class Origin(NamedTuple):
    """Where figures come from; it decides how they are named."""

    work: str
    """First part of the names of counts: `calls` or `operations`."""
    unit: str
    """UCUM, of one of them."""
    kind: str
    """The label that says what a call or a unit of work is: `call` or `component`."""
    prefix: str = ""
    """Before every name: `probe.` for what a probe measured, which is no part of the run's own figures."""
    labels: Labels = ()
    """On every point."""

    def named(self, labels: Labels) -> Labels:
        """Return the labels of a point of this origin."""
        return (*labels, *self.labels) if self.labels else labels


CALLS = Origin("calls", "{call}", "call")
OPERATIONS = Origin("operations", "{operation}", "component")


def beside_calls(probe: str) -> Origin:
    """Return the origin of what a run's probe measures."""
    return OPERATIONS._replace(prefix="probe.", labels=(("probe", probe),))


def side_by_side(service: str) -> Origin:
    """Return the origin of what one of several services under test measures; gates call it a probe too."""
    return OPERATIONS._replace(labels=(("probe", service),))


class Level(NamedTuple):
    """What an origin has up at an instant."""

    origin: Origin
    active: int
    cpu_percent: dict[int, float]
    """Of each of its processes, of one core."""
