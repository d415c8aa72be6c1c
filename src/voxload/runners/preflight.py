"""What is looked at before a run: what it asks of this machine, what stands in the way, where its calls come from."""

from __future__ import annotations

import math
from dataclasses import replace
from urllib.parse import urlsplit

import msgspec

from voxload.engine.reach import proxy_for
from voxload.errors import BadInputError, Problem, RunAbortedError
from voxload.model.scenario import AUTO
from voxload.runners.estimate import CORE_SHARE_MAX, GENERATOR_CPU_US, Estimate, estimate_plan
from voxload.runners.machine import Load, obstacles, read_machine, sources_needed
from voxload.runners.prepare import Prepared
from voxload.runners.self_benchmark import remembered
from voxload.runners.source_addresses import auto_sources

CONNECTIONS = ("open files", "local ports")
"""What is used up by calls: where it ends, calls fail that the target would have taken."""
PROXY_HINT = "HTTPS_PROXY, HTTP_PROXY and ALL_PROXY are written http://proxy.example:3128"


def load_of(estimate: Estimate, sources: int = 1) -> Load:
    """Return what the plan asks of this machine, by the last benchmark of `voxload doctor` if there is one."""
    cores = estimate.cpu_cores
    measured = remembered()
    if measured is not None and estimate.frames_up_per_s:
        cores *= measured.cpu_us_per_frame / GENERATOR_CPU_US["frame_up"]
    per_s = max((max(phase.rate_start_per_s, phase.rate_end_per_s) for phase in estimate.phases), default=0.0)
    if estimate.model == "closed":
        per_s = estimate.peak_calls / estimate.mean_call_s if estimate.mean_call_s else 0.0
    processes = max(1, math.ceil(cores / CORE_SHARE_MAX))
    return Load(estimate.peak_calls, per_s, processes, cores, sources, estimate.load_duration_s)


def with_auto_sources(prepared: Prepared) -> Prepared:
    """Return the same run with as many source addresses as its load needs, where the scenario leaves that to us.

    Raises:
        BadInputError: this machine has not so many.
    """
    if prepared.scenario.source_addresses != AUTO:
        return prepared
    addresses = auto_sources(sources_needed(read_machine(), load_of(estimate_plan(prepared))))
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
