"""The script that makes the corpus tells a changed corpus from an unchanged one."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "make_speech.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_speech", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def labels(script):
    return msgspec.json.decode((script.DATA / "speech.json").read_bytes(), type=list[script.SpeechLabel])


def test_the_committed_labels_are_those_of_the_script(script, labels):
    assert [(label.id, label.role, label.text, label.intent, label.voice) for label in labels] == script.planned()


def test_differences_are_found_one_by_one(script, labels):
    assert script.differences(labels, labels) == []
    first, second, third, *rest = labels
    changed = [
        msgspec.structs.replace(first, text="Other words."),
        msgspec.structs.replace(second, samples=second.samples + 801, active_end=second.active_end + 800),
        *rest,
    ]
    found = script.differences(labels, changed)
    assert len(found) == 3
    assert any(line.startswith(f"{third.id}: only in one") for line in found)
    assert any(line.startswith(f"{first.id}: text is") for line in found)
    assert any(line.startswith(f"{second.id}: samples is") for line in found)


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_one_utterance_is_made_as_it_is_committed(script, labels, tmp_path):
    label = labels[0]
    samples = script.synthesise(label.text, label.voice, tmp_path)
    assert abs(len(samples) - label.samples) <= script.TOLERANCE
    assert script.active_bounds(samples, 16_000)[0] == pytest.approx(label.active_start, abs=script.TOLERANCE)


def test_the_cough_is_made_as_it_is_committed(script, labels, tmp_path):
    label = next(label for label in labels if label.intent == "noise")
    samples = script.synthesise(label.text, label.voice, tmp_path)
    committed, _ = script.read_wav(script.DATA / label.file)
    assert len(samples) == label.samples
    assert abs(samples.astype(int) - committed).max() <= 2  # floating point may differ between machines


def test_it_has_help():
    result = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert "--check" in result.stdout
