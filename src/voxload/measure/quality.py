"""How the agent's audio sounds: signal scores of recorded calls, taken after the run in a process of their own.

DNSMOS and PLCMOS rate a recording by itself; clean speech gets only about 3.3 and 4.0, so what counts is the change
from the same score of clean agent audio. ViSQOL compares a recording with the very audio that the agent sent. All
models come inside their packages: nothing is fetched. PESQ is left out for the rights on its source.
"""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from voxload.clock import NS_PER_S, process_cpu_ns
from voxload.errors import BadInputError, Problem, RunAbortedError
from voxload.measure.extra import require
from voxload.measure.summary import CallRecord

EXTRA = "quality"
VISQOL_EXTRA = "visqol"
RATE_HZ = 16_000
"""What all three models want."""
FRAME = RATE_HZ // 100
SILENCE_DBFS = -55.0
PAUSE_KEPT_S = 0.3
"""Longer silences are cut to this: thinking time is not sound quality. Long gaps are counted as underruns."""
AUDIO_S_MIN = 0.5
AUDIO_S_MAX = 60.0
"""Speech scored of one recording; the rest of a long call would cost CPU and add little."""
SEED = 20_231
NICENESS = 10

Audio = npt.NDArray[np.float32]
"""Mono audio at `RATE_HZ`: shape (n,), full scale 1."""


class Scores(msgspec.Struct, frozen=True, omit_defaults=True):
    """The scores of one recording, each from 1 to 5; None where it could not be taken.

    A change is the score less that of the clean reference; 0 is as good as the agent can sound.
    """

    path: str
    speech_s: float = 0.0
    """Agent speech scored, pauses cut."""
    dnsmos: float | None = None
    """DNSMOS P.835, overall quality."""
    dnsmos_signal: float | None = None
    dnsmos_background: float | None = None
    plcmos: float | None = None
    """PLCMOS v2: what lost packets do to speech."""
    visqol: float | None = None
    """ViSQOL v3 in speech mode, against what the agent sent."""
    dnsmos_change: float | None = None
    plcmos_change: float | None = None
    visqol_change: float | None = None
    cpu_s_per_audio_s: float = 0.0
    problem: str = ""
    """Why there are no scores."""


class Job(msgspec.Struct, frozen=True):
    """What the scoring process is asked: paths of WAV files."""

    recordings: list[str]
    reference: str | None = None
    sent: list[str | None] | None = None


# --- which recordings -------------------------------------------------------------------------------------------------


def choose_recordings(calls: Sequence[CallRecord], share: float, worst: int, seed: int) -> list[CallRecord]:
    """Return the recorded calls to score: an even sample of `share` (0 to 1, rounded up) and the `worst` ones.

    Worst is the lowest E-model score, then the longest time in which the buffer was empty. The same seed draws the same
    calls; the result is in the order of `calls`.
    """
    recorded = [call for call in calls if call.recording]
    drawn = random.Random(seed).sample(recorded, math.ceil(min(max(share, 0.0), 1.0) * len(recorded)))
    by_badness = sorted(recorded, key=lambda call: (math.inf if call.mos is None else call.mos, -call.underrun_ms))
    chosen = {id(call) for call in (*drawn, *by_badness[: max(worst, 0)])}
    return [call for call in recorded if id(call) in chosen]


# --- scoring, in another process --------------------------------------------------------------------------------------


def score_in_process(
    paths: Sequence[Path],
    reference: Path | None,
    folder: Path,
    *,
    sent: Sequence[Path | None] | None = None,
    timeout_s: float = 600.0,
) -> list[Scores]:
    """Return `score_recordings` of a child process of low priority; `folder` takes the job and its answer for a moment.

    Raises:
        BadInputError: an extra is missing, or the reference cannot be scored.
        RunAbortedError: the child took longer than `timeout_s`, or died.
    """
    job_file, answer_file = folder / "quality-job.json", folder / "quality-scores.json"
    job = Job([str(path) for path in paths], _text(reference), None if sent is None else [_text(path) for path in sent])
    job_file.write_bytes(msgspec.json.encode(job))
    command = [sys.executable, "-m", "voxload.measure.quality", str(job_file), str(answer_file)]
    try:
        # The command is this interpreter with a module of ours and two paths of ours.
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)  # noqa: S603
        if done.returncode == BadInputError.exit_code:
            raise BadInputError(done.stderr.strip().rsplit("\n", 1)[-1])
        if done.returncode or not answer_file.exists():
            raise RunAbortedError(f"scoring the recordings failed ({done.returncode}): {done.stderr.strip()[-500:]}")
        return msgspec.json.decode(answer_file.read_bytes(), type=list[Scores])
    except subprocess.TimeoutExpired:
        raise RunAbortedError(f"scoring {len(paths)} recordings took longer than {timeout_s:.0f} s") from None
    finally:
        job_file.unlink(missing_ok=True)
        answer_file.unlink(missing_ok=True)


def main(arguments: Sequence[str]) -> int:
    """Score the job in the first file, write the scores to the second: `python -m voxload.measure.quality JOB OUT`."""
    job_file, answer_file = map(Path, arguments)
    os.nice(NICENESS)
    try:
        job = msgspec.json.decode(job_file.read_bytes(), type=Job)
        sent = None if job.sent is None else [Path(path) if path else None for path in job.sent]
        reference = Path(job.reference) if job.reference else None
        scores = score_recordings([Path(path) for path in job.recordings], reference, sent=sent)
    except BadInputError as error:
        sys.stderr.write(f"\n{error}\n")
        return int(error.exit_code)
    answer_file.write_bytes(msgspec.json.encode(scores))
    return 0


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


# --- scoring ----------------------------------------------------------------------------------------------------------


def score_recordings(
    paths: Sequence[Path], reference: Path | None, *, sent: Sequence[Path | None] | None = None
) -> list[Scores]:
    """Return the scores of WAV files (of two channels the second, the agent's, is scored), in their order.

    `reference` is clean audio of the agent, whatever it says: the changes are counted from its scores. `sent` holds for
    each recording the audio as the agent sent it, for ViSQOL, or None; without it there is no ViSQOL. A recording that
    cannot be read or holds no speech comes back with its `problem`.

    Raises:
        BadInputError: an extra is missing, or the reference cannot be scored.
        ValueError: `sent` has another length than `paths`.
    """
    originals = list(sent) if sent is not None else [None] * len(paths)
    if len(originals) != len(paths):
        raise ValueError(f"{len(originals)} originals for {len(paths)} recordings")
    models = _Models(with_visqol=any(original is not None for original in originals))
    clean = None
    if reference is not None:
        clean = models.score(reference, reference if models.visqol else None)
        if clean.problem:
            raise BadInputError([Problem(f"reference audio: {clean.problem}", str(reference))])
    scored = (models.score(path, original) for path, original in zip(paths, originals, strict=True))
    return [scores if clean is None else _with_changes(scores, clean) for scores in scored]


def _with_changes(scores: Scores, clean: Scores) -> Scores:
    return msgspec.structs.replace(
        scores,
        dnsmos_change=_change(scores.dnsmos, clean.dnsmos),
        plcmos_change=_change(scores.plcmos, clean.plcmos),
        visqol_change=_change(scores.visqol, clean.visqol),
    )


def _change(score: float | None, clean: float | None) -> float | None:
    return None if score is None or clean is None else score - clean


class _Models:
    """The models, loaded once a process."""

    def __init__(self, with_visqol: bool) -> None:
        self._soundfile = require("soundfile", EXTRA)
        self._soxr = require("soxr", EXTRA)
        self._dnsmos = require("speechmos.dnsmos", EXTRA)
        self._plcmos = require("speechmos.plcmos", EXTRA)
        self.visqol: Any = None
        if with_visqol:
            require("ai_edge_litert", VISQOL_EXTRA)  # without it ViSQOL quietly takes a mapping that flatters bad audio
            self.visqol = require("visqol", VISQOL_EXTRA).VisqolApi()
            self.visqol.create(mode="speech", use_lattice_model=True)

    def score(self, path: Path, original: Path | None) -> Scores:
        """Return the scores of one file, without changes."""
        try:
            audio = self._read(path)
            clean = None if original is None else self._read(original)
        except (self._soundfile.SoundFileError, OSError) as error:
            return Scores(str(path), problem=f"cannot be read: {error}")
        speech_s = len(audio) / RATE_HZ
        if speech_s < AUDIO_S_MIN:
            return Scores(str(path), speech_s, problem=f"holds {speech_s:.1f} s of speech, too little to score")
        start_ns = process_cpu_ns()
        dnsmos = self._dnsmos.run(audio, RATE_HZ)
        np.random.seed(SEED)  # PLCMOS draws the raters that it imagines from numpy's global generator
        plcmos = self._plcmos.run(audio, RATE_HZ)["plcmos"]
        visqol = None if clean is None or len(clean) < AUDIO_S_MIN * RATE_HZ else self._compare(clean, audio)
        return Scores(
            str(path),
            speech_s,
            dnsmos=float(dnsmos["ovrl_mos"]),
            dnsmos_signal=float(dnsmos["sig_mos"]),
            dnsmos_background=float(dnsmos["bak_mos"]),
            plcmos=float(plcmos),
            visqol=visqol,
            cpu_s_per_audio_s=(process_cpu_ns() - start_ns) / NS_PER_S / speech_s,
        )

    def _compare(self, clean: Audio, audio: Audio) -> float:
        result = self.visqol.measure_from_arrays(clean.astype(np.float64), audio.astype(np.float64), RATE_HZ)
        return float(result.moslqo)

    def _read(self, path: Path) -> Audio:
        samples, rate_hz = self._soundfile.read(str(path), dtype="float32", always_2d=True)
        agent = samples[:, min(1, samples.shape[1] - 1)]
        if rate_hz != RATE_HZ and len(agent):
            agent = self._soxr.resample(agent, rate_hz, RATE_HZ)
        return cut_pauses(np.clip(agent, -1.0, 1.0).astype(np.float32))


def cut_pauses(audio: Audio) -> Audio:
    """Return the audio with every silence longer than `PAUSE_KEPT_S` cut to that, at most `AUDIO_S_MAX` of it.

    Silence at both ends is cut to half of that. Without any speech nothing is left.
    """
    frames = len(audio) // FRAME
    if not frames:
        return audio[:0]
    power = np.mean(np.square(audio[: frames * FRAME].reshape(frames, FRAME), dtype=np.float64), axis=1)
    active = power > 10.0 ** (SILENCE_DBFS / 10.0)
    margin = round(PAUSE_KEPT_S * RATE_HZ / FRAME / 2)
    # A frame stays when any frame within `margin` of it is active.
    near = np.convolve(active, np.ones(2 * margin + 1), mode="full")[margin : margin + frames] > 0.5
    kept: Audio = audio[: frames * FRAME].reshape(frames, FRAME)[near].reshape(-1)
    return kept[: int(AUDIO_S_MAX * RATE_HZ)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
