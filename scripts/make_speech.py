"""Make the speech corpus of the package with Debian's `flite`; run it again after a change of the texts below."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from voxload.audio.codec import FULL_SCALE, Samples, amplitude, read_wav, resample, write_wav
from voxload.audio.corpus import BACKCHANNEL, GENERIC, GREETING, LABELS_FILE, MONOLOGUE, NOISE, SpeechLabel
from voxload.audio.speech import active_bounds

DATA = Path(__file__).resolve().parent.parent / "src" / "voxload" / "audio" / "data"
RATE_HZ = 16_000
PAD = RATE_HZ // 10  # lead and tail
FADE = RATE_HZ // 50  # from the speech down to digital silence
LEVEL_DBFS = -20.0
PEAK_MAX = 0.9 * FULL_SCALE
TOLERANCE = RATE_HZ // 20  # of --check: floating point may differ between machines

CALLER_VOICES = ("slt", "rms")
AGENT_VOICE = "awb"
CALLERS = {
    "book_appointment": (
        "Hello, I would like to book an appointment with the doctor.",
        "Can I schedule a visit for next Tuesday morning?",
    ),
    "cancel_appointment": (
        "I need to cancel my appointment for tomorrow.",
        "Please cancel my visit on Friday, I cannot make it.",
    ),
    "refill_prescription": (
        "I need to refill my blood pressure prescription.",
        "Could you renew the prescription for my medication?",
    ),
    "test_results": (
        "I am calling about the results of my blood test.",
        "Are my lab results back yet?",
    ),
    "billing_question": (
        "I have a question about my last bill.",
        "Why was I charged twice on my invoice?",
    ),
    "opening_hours": (
        "What are your opening hours on Saturday?",
        "When does the clinic close today?",
    ),
}
AGENTS = {
    GREETING: "Thank you for calling the clinic. How can I help you today?",
    "book_appointment": "Certainly. I can offer you Tuesday at ten in the morning.",
    "cancel_appointment": "No problem. Your appointment has been cancelled.",
    "refill_prescription": "Your refill will be ready at the pharmacy tomorrow.",
    "test_results": "Your results are in, and everything looks normal.",
    "billing_question": "I see the charge. I will send you a corrected bill.",
    "opening_hours": "We are open from eight until six, Monday to Friday.",
    GENERIC: "Let me look into that for you, one moment please.",
}
MM_HM = "Mm-hm."
PHONES = {MM_HM: "m m hh m m"}  # flite would spell it
COUGH = "(cough)"
MADE_HERE = "none"  # the voice of what nobody speaks
LONG = (
    "Hello, I hope you can help me, because this is a rather long story. My mother has had a cough since last "
    "Monday, and her doctor told us to come back if it was not better by now, so we would like to book an "
    "appointment for Thursday afternoon."
)


def speak(text: str, voice: str, folder: Path) -> Samples:
    """Return what flite says, at 16 kHz."""
    raw = folder / "flite.wav"
    words = ["-p", PHONES[text]] if text in PHONES else ["-t", text]
    subprocess.run(["flite", "-voice", voice, *words, "-o", str(raw)], check=True)
    samples, rate_hz = read_wav(raw)
    return resample(samples, rate_hz, RATE_HZ)


def cough() -> Samples:
    """Return a cough's three phases: a burst of air, turbulent flow that dies away, and a short voiced end."""
    rng = np.random.default_rng(1)
    time_s = np.arange(round(0.38 * RATE_HZ)) / RATE_HZ
    air = rng.standard_normal(len(time_s))
    air = np.convolve(air, np.hanning(7) / 3.5, "same") + 0.3 * air  # most of it below 4 kHz
    burst = np.minimum(time_s / 0.004, 1) * np.exp(-np.maximum(time_s - 0.03, 0) / 0.025)
    flow = 0.35 * np.minimum(time_s / 0.05, 1) * np.exp(-np.maximum(time_s - 0.12, 0) / 0.09)
    voiced = np.exp(-(((time_s - 0.29) / 0.035) ** 2))
    tone = sum(np.sin(2 * np.pi * 230 * k * time_s) / k for k in range(1, 9))
    wave = air * (burst + flow) + 0.3 * tone * voiced
    return np.rint(wave / np.abs(wave).max() * PEAK_MAX).astype(np.int16)


def synthesise(text: str, voice: str, folder: Path) -> Samples:
    """Return a sentence at 16 kHz: 100 ms of silence at both ends, the speech between them at -20 dBFS."""
    samples = cough() if voice == MADE_HERE else speak(text, voice, folder)
    # Bounds hang on the level and the level on the bounds: the second round settles it.
    for _ in range(2):
        bounds = active_bounds(samples, RATE_HZ)
        if bounds is None:
            raise SystemExit(f"there is no speech in {text!r} with voice {voice}")
        wave = samples.astype(np.float64)
        level = np.sqrt(np.mean(wave[slice(*bounds)] ** 2))
        gain = min(amplitude(LEVEL_DBFS) / level, PEAK_MAX / np.abs(wave).max())
        samples = np.rint(wave * gain).astype(np.int16)
    start, end = active_bounds(samples, RATE_HZ) or bounds
    wave = np.pad(samples.astype(np.float64), PAD)[start : end + 2 * PAD]
    ramp = np.sin(np.linspace(0, np.pi / 2, FADE)) ** 2
    wave[: PAD - FADE] = 0
    wave[PAD - FADE : PAD] *= ramp
    wave[len(wave) - PAD : len(wave) - PAD + FADE] *= ramp[::-1]
    wave[len(wave) - PAD + FADE :] = 0
    return np.rint(wave).astype(np.int16)


def planned() -> list[tuple[str, str, str, str, str]]:
    """Return (id, role, text, intent, voice) of all the corpus."""
    callers = [
        (f"{intent}-{voice}-{number}", "caller", text, intent, voice)
        for intent, texts in CALLERS.items()
        for voice in CALLER_VOICES
        for number, text in enumerate(texts, 1)
    ]
    agents = [(f"{intent}-{AGENT_VOICE}-1", "agent", text, intent, AGENT_VOICE) for intent, text in AGENTS.items()]
    extras = [
        *((f"mm_hm-{voice}-1", "caller", MM_HM, BACKCHANNEL, voice) for voice in CALLER_VOICES),
        ("cough-1", "noise", COUGH, NOISE, MADE_HERE),
        ("book_appointment-slt-long", "caller", LONG, MONOLOGUE, "slt"),
    ]
    return callers + agents + extras


def make(folder: Path) -> list[SpeechLabel]:
    """Write all WAV files and the labels into `folder`; return the labels."""
    labels = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, role, text, intent, voice in planned():
            samples = synthesise(text, voice, Path(scratch))
            bounds = active_bounds(samples, RATE_HZ)
            assert bounds is not None
            path = folder / f"{name}.wav"
            write_wav(path, samples, RATE_HZ)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            labels.append(
                SpeechLabel(name, role, text, intent, voice, path.name, RATE_HZ, len(samples), *bounds, digest)
            )
    text_json = msgspec.json.format(msgspec.json.encode(labels), indent=2) + b"\n"
    (folder / LABELS_FILE).write_bytes(text_json)
    return labels


def differences(committed: list[SpeechLabel], made: list[SpeechLabel]) -> list[str]:
    """Return what differs between two sets of labels, beyond the tolerance of lengths."""
    old, new = {label.id: label for label in committed}, {label.id: label for label in made}
    found = [f"{name}: only in one of both" for name in sorted(old.keys() ^ new.keys())]
    for name in sorted(old.keys() & new.keys()):
        a, b = old[name], new[name]
        found += [
            f"{name}: {field} is {getattr(a, field)!r}, made anew {getattr(b, field)!r}"
            for field in ("role", "text", "intent", "voice", "file", "sample_rate_hz")
            if getattr(a, field) != getattr(b, field)
        ]
        found += [
            f"{name}: {field} is {getattr(a, field)}, made anew {getattr(b, field)}"
            for field in ("samples", "active_start", "active_end")
            if abs(getattr(a, field) - getattr(b, field)) > TOLERANCE
        ]
    return found


def check() -> int:
    """Make the corpus anew in a scratch folder and compare; return the exit code."""
    committed = msgspec.json.decode((DATA / LABELS_FILE).read_bytes(), type=list[SpeechLabel])
    with tempfile.TemporaryDirectory() as scratch:
        made = make(Path(scratch))
    found = differences(committed, made)
    for line in found:
        print(line, file=sys.stderr)
    same = sum(a.sha256 == b.sha256 for a, b in zip(committed, made, strict=False))
    print(f"{len(made)} utterances, {same} identical to the byte, {len(found)} differences")
    return 1 if found else 0


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="make it in a scratch folder and compare, write nothing")
    arguments = parser.parse_args()
    if shutil.which("flite") is None:
        parser.error("flite is not installed: apt-get install flite")
    if arguments.check:
        return check()
    DATA.mkdir(exist_ok=True)
    for old in DATA.glob("*.wav"):
        old.unlink()
    labels = make(DATA)
    size = sum(path.stat().st_size for path in DATA.iterdir())
    print(f"{len(labels)} utterances in {DATA}, {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
