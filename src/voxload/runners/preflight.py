"""What is looked at before a run: what it asks of this machine, what stands in the way, where its calls come from."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import msgspec

from voxload.engine.proxies import proxy_for
from voxload.errors import BadInputError, Problem, RunAbortedError
from voxload.model.scenario import AUTO
from voxload.runners.estimate import Estimate, estimate_plan
from voxload.runners.machine import Load, obstacles, read_machine, sources_needed
from voxload.runners.prepare import Prepared
from voxload.runners.self_benchmark import remembered
from voxload.runners.source_addresses import auto_sources

CONNECTIONS = ("open files", "local ports")
"""What is used up by calls: where it ends, calls fail that the target would have taken."""
PROXY_HINT = "HTTPS_PROXY, HTTP_PROXY and ALL_PROXY are written http://proxy.example:3128"


def estimate_here(prepared: Prepared) -> Estimate:
    """Return the plan in numbers for this machine, by the last benchmark of `voxload doctor` if there is one."""
    measured = remembered()
    return estimate_plan(prepared) if measured is None else estimate_plan(prepared, measured.cpu_us_per_frame)


def load_of(estimate: Estimate, sources: int = 1) -> Load:
    """Return what the plan asks of a machine."""
    per_s = max((max(phase.rate_start_per_s, phase.rate_end_per_s) for phase in estimate.phases), default=0.0)
    if estimate.model == "closed":
        per_s = estimate.peak_calls / estimate.mean_call_s if estimate.mean_call_s else 0.0
    return Load(estimate.peak_calls, per_s, estimate.processes, sources, estimate.load_duration_s)


def with_auto_sources(prepared: Prepared) -> Prepared:
    """Return the same run with as many source addresses as its load needs, where the scenario leaves that to us.

    Raises:
        BadInputError: this machine has not so many.
    """
    if prepared.scenario.source_addresses != AUTO:
        return prepared
    addresses = auto_sources(sources_needed(read_machine(), load_of(estimate_here(prepared))))
    return replace(prepared, plan=msgspec.structs.replace(prepared.plan, source_addresses=addresses))


def machine_warnings(prepared: Prepared, estimate: Estimate, subjects: tuple[str, ...] = ()) -> list[Problem]:
    """Return why this machine cannot carry a run; of these subjects, or of all."""
    load = load_of(estimate, max(1, len(prepared.plan.source_addresses)))
    return [
        Problem(item.detail, suggestion=item.remedy)
        for item in obstacles(read_machine(), load)
        if not subjects or item.subject in subjects
    ]


def sources_in_words(prepared: Prepared) -> str:
    """Return where the calls come from, for people; empty where the system chooses."""
    addresses = prepared.plan.source_addresses
    if not addresses:
        return ""
    listed = ", ".join(addresses) if len(addresses) <= 4 else f"{addresses[0]} … {addresses[-1]}"
    return (
        f"Calls come from {len(addresses)} addresses in turn: {listed}"
        if addresses[1:]
        else f"Calls come from {listed}"
    )


def proxies_in_words(prepared: Prepared) -> str:
    """Return through which proxies this machine's environment leads the calls; empty where there is none.

    Raises:
        BadInputError: a variable names no proxy that can be used.
    """
    plan, found = prepared.plan, dict[str, None]()
    for url in [plan.target, *(target.url for target in plan.targets)]:
        try:
            proxy = urlsplit(proxy_for(url) or "") if url else urlsplit("")
            if proxy.scheme and not proxy.hostname:
                raise ValueError("it names no host")
            if proxy.scheme:  # without user and password
                port = f":{proxy.port}" if proxy.port is not None else ""
                found[f"{proxy.scheme}://{proxy.hostname}{port}"] = None
        except (RunAbortedError, ValueError) as error:
            message = f"the environment's proxy for {plan.redact(url)}: {error}"
            raise BadInputError([Problem(message, suggestion=PROXY_HINT)]) from None
    return f"Calls go through the proxy {', '.join(found)}" if found else ""
