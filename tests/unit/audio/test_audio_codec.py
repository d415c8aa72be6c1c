"""WAV reading refuses what it cannot read exactly; µ-law and resampling keep what they must."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxload.audio.codec import amplitude, decode_audio, decode_pcm, encode_audio, read_wav, resample, write_wav
from voxload.errors import BadInputError, ExitCode


def wav(raw: bytes, channels: int = 1, width: int = 2, rate_hz: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(raw)
    return buffer.getvalue()


def test_a_wav_file_survives_the_round_trip(tmp_path):
    samples = np.array([0, 1, -1, 32_767, -32_768], dtype=np.int16)
    write_wav(tmp_path / "a.wav", samples, 8_000)
    for source in (tmp_path / "a.wav", str(tmp_path / "a.wav"), (tmp_path / "a.wav").read_bytes()):
        read, rate_hz = read_wav(source)
        assert rate_hz == 8_000
        assert read.dtype == np.int16
        assert read.tolist() == samples.tolist()


def test_channels_are_averaged_without_overflow():
    stereo = struct.pack("<6h", 32_767, 32_767, -32_768, -32_768, 100, -50)
    assert read_wav(wav(stereo, channels=2))[0].tolist() == [32_767, -32_768, 25]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a readable WAV"),
        (b"ID3 not a wave file at all", "not a readable WAV"),
        (wav(b"\x80" * 100, width=1), "8-bit"),
        (wav(b"\0" * 300, width=3), "24-bit"),
        (wav(b"\0" * 100, rate_hz=1_000), "1000 Hz"),
        (wav(b"\0" * 100)[:30], "not a readable WAV"),
        (wav(b"\0" * 100).replace(b"\x10\0\0\0\x01\0", b"\x10\0\0\0\x03\0"), "unknown format: 3"),  # float
    ],
)
def test_other_files_are_refused_by_name(data, words):
    with pytest.raises(BadInputError) as caught:
        read_wav(data, "prompt.wav")
    assert words in str(caught.value)
    assert str(caught.value).startswith("prompt.wav: ")
    assert caught.value.exit_code is ExitCode.BAD_INPUT


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInputError, match=r"nowhere\.wav: cannot be read"):
        read_wav(tmp_path / "nowhere.wav")


@given(data=st.binary(max_size=100), cut=st.integers(0, 60), at=st.integers(0, 59), byte=st.integers(0, 255))
@settings(max_examples=300)
def test_no_bytes_raise_anything_else(data, cut, at, byte):
    broken = bytearray(wav(data)[: 44 + len(data) - cut])
    if at < len(broken):
        broken[at] = byte
    for candidate in (data, bytes(broken)):
        try:
            samples, _ = read_wav(candidate)
        except BadInputError:
            continue
        assert samples.ndim == 1


def test_mulaw_agrees_with_g711_and_is_within_its_step():
    # G.711, table 2a: full positive and negative scale, and both zeros.
    assert encode_audio(np.array([32_124, -32_124, 0], dtype=np.int16), "mulaw") == b"\x80\x00\xff"
    assert decode_audio(b"\x80\x00\xff\x7f", "mulaw").tolist() == [32_124, -32_124, 0, 0]
    samples = np.arange(-32_000, 32_000, 7, dtype=np.int16)
    back = decode_audio(encode_audio(samples, "mulaw"), "mulaw")
    step = np.abs(samples.astype(int)) / 16 + 16
    assert np.all(np.abs(back.astype(int) - samples) <= step)
    everything = bytes(range(256))
    again = encode_audio(decode_audio(everything, "mulaw"), "mulaw")
    assert again.replace(b"\xff", b"\x7f") == everything.replace(b"\xff", b"\x7f")  # both codes mean zero


def test_pcm_round_trip_and_odd_bytes():
    samples = np.array([-32_768, 5, 32_767], dtype=np.int16)
    assert decode_audio(encode_audio(samples, "pcm16"), "pcm16").tolist() == samples.tolist()
    assert decode_pcm(b"\x01\x00\x02", "pcm16") == b"\x01\x00"
    assert decode_pcm(b"", "mulaw") == b""
    for call in (lambda: encode_audio(samples, "opus"), lambda: decode_audio(b"", "opus")):
        with pytest.raises(ValueError, match="opus"):
            call()


@pytest.mark.parametrize("to_hz", [8_000, 24_000, 48_000])
def test_resampling_keeps_pitch_level_and_silence(to_hz):
    tone = (10_000 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.int16)
    result = resample(tone, 16_000, to_hz)
    assert len(result) == to_hz
    middle = result[to_hz // 4 : 3 * to_hz // 4].astype(float)
    expected = 10_000 * np.sin(2 * np.pi * 440 * np.arange(to_hz) / to_hz)[to_hz // 4 : 3 * to_hz // 4]
    assert np.max(np.abs(middle - expected)) < 30  # neither delay nor gain
    assert not resample(np.zeros(1_600, dtype=np.int16), 16_000, to_hz).any()
    assert not len(resample(np.zeros(0, dtype=np.int16), 16_000, to_hz))


def test_resampling_saturates_instead_of_wrapping():
    square = np.where(np.arange(1_600) // 20 % 2, 32_767, -32_768).astype(np.int16)
    result = resample(square, 16_000, 24_000)
    assert np.all(np.abs(np.diff(result.astype(int))) <= 65_535)
    settled = result.reshape(-1, 30)[2:-2, 10:20].astype(int)  # the middle of each half wave
    assert np.all(np.abs(settled) > 25_000)
    assert np.all(np.sign(settled) == np.sign(settled[:, :1]))


def test_amplitude_of_a_level():
    assert amplitude(0) == 32_768
    assert amplitude(-20) == pytest.approx(3_276.8)
