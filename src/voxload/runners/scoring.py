"""Signal scores of recorded calls, after the run: a sample of them and the worst, against the clean agent."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voxload.audio.codec import decode_audio, encode_audio, write_wav
from voxload.audio.corpus import load_corpus
from voxload.errors import BadInputError, Problem
from voxload.measure.collector import Collector
from voxload.measure.extra import optional
from voxload.measure.quality import choose_recordings, score_in_process
from voxload.measure.recorder import call_labels
from voxload.model.scenario import TWIN_TARGET, Scenario
from voxload.runners.results import read_calls

REFERENCE_UTTERANCES = 4
SCORES = ("dnsmos", "plcmos", "visqol")


def sent_file(recording: str) -> str:
    """Return the file beside a recording that holds what the agent sent; it is removed once the calls are scored."""
    return recording.removesuffix(".wav") + ".sent.wav"


def score_calls(collector: Collector, folder: Path, scenario: Scenario, reference: Path | None) -> list[str]:
    """Score recordings in the run's folder and add the scores to the run's metrics; returns what went wrong.

    `reference` is clean audio of the agent, from which the changes are counted; for the embedded agent it is made from
    what the agent says. Recordings keep µ-law audio, so the reference passes through µ-law too.

    Raises:
        BadInputError: the extra `quality` is not installed.
    """
    settings = scenario.quality
    recorded = {call_id: folder / name for call_id, name in collector.recordings.items()}
    if settings is None or not recorded:
        return ["no call was recorded, so none was scored; see --record"] if settings is not None else []
    calls = [call for call in read_calls(folder) if call.call_id in recorded]
    chosen = choose_recordings(calls, settings.share, settings.worst, scenario.seed)
    own = reference is None and scenario.target == TWIN_TARGET
    clean = _clean_agent(folder) if own else reference
    try:
        paths = [recorded[call.call_id] for call in chosen]
        originals = [Path(sent_file(str(path))) for path in paths] if optional("visqol") is not None else None
        scores = score_in_process(paths, clean, folder, sent=originals, timeout_s=settings.timeout_ns / 1e9)
    finally:
        for path in recorded.values():
            Path(sent_file(str(path))).unlink(missing_ok=True)
        if own and clean is not None:
            clean.unlink(missing_ok=True)
    problems = []
    for call, score in zip(chosen, scores, strict=True):
        if score.problem:
            problems.append(f"{call.call_id}: {score.problem}")
        labels = call_labels(call)
        for name in SCORES:
            value, change = getattr(score, name), getattr(score, f"{name}_change")
            if value is not None:
                collector.observe(name, labels, value)
            if change is not None:
                collector.observe(f"{name}_loss", labels, max(-change, 0.0))
    return problems


def reference_file(scenario: Scenario, scenario_file: str) -> Path | None:
    """Return the clean audio that the scenario names, relative to the scenario's own file.

    Raises:
        BadInputError: there is no such file.
    """
    if scenario.quality is None or not scenario.quality.reference:
        return None
    path = Path(scenario_file).parent / scenario.quality.reference
    if not path.is_file():
        raise BadInputError([Problem(f"quality.reference: no such file {str(path)!r}", scenario_file)])
    return path


def _clean_agent(folder: Path) -> Path:
    """Write what the embedded agent says, as clean as a recording can be."""
    agents = load_corpus().agents[:REFERENCE_UTTERANCES]
    samples = np.concatenate([utterance.samples for utterance in agents])
    path = folder / ".reference.wav"
    write_wav(path, decode_audio(encode_audio(samples, "mulaw"), "mulaw"), agents[0].sample_rate_hz)
    return path
