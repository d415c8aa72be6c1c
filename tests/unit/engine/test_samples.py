"""Base64, loudness and peaks in C give the answers of Python's base64 and audioop, to the bit."""

import base64
import ctypes
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import voxload
from voxload.audio.codec import peak, rms

CODE = """
#include "_samples.h"
void begin(int quick) { fill_places(); blocks = blocks && quick; }
long long loudness(const int16_t *samples, Py_ssize_t count) { return rms(samples, count); }
long long loudest(const int16_t *samples, Py_ssize_t count) { return peak(samples, count); }
Py_ssize_t decode(const unsigned char *text, Py_ssize_t size, unsigned char *out, Py_ssize_t *count) {
    const unsigned char *end = decode_base64(text, text + size, out, count);
    return end ? end - text : -1;
}
"""
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler here")


@pytest.fixture(scope="module", params=[True, False], ids=["blocks", "four by four"])
def native(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    source, built = folder / "samples.c", folder / f"samples{request.param}.so"
    source.write_text(CODE)
    includes = [f"-I{Path(voxload.__file__).parent}", f"-I{sysconfig.get_paths()['include']}"]
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", *includes, str(source), "-lm", "-o", str(built)], check=True)
    library = ctypes.CDLL(str(built))
    for function in (library.loudness, library.loudest):
        function.restype, function.argtypes = ctypes.c_longlong, [ctypes.c_char_p, ctypes.c_ssize_t]
    library.decode.restype = ctypes.c_ssize_t
    library.decode.argtypes = [ctypes.c_char_p, ctypes.c_ssize_t, ctypes.c_char_p, ctypes.POINTER(ctypes.c_ssize_t)]
    library.begin(request.param)
    return library


def decoded(native, text):
    """Return the bytes before the quote, and where that stands; None where it is not plain base64."""
    out, count = ctypes.create_string_buffer(len(text) + 4), ctypes.c_ssize_t()
    place = native.decode(text, len(text), out, ctypes.byref(count))
    return None if place < 0 else (out.raw[: count.value], place)


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_base64_up_to_a_quote(native, data, after):
    text = base64.b64encode(data)
    assert decoded(native, text + b'"' + after) == (data, len(text))
    assert decoded(native, text) is None


@given(st.integers(0, 63), st.integers(0, 255))
@example(17, ord("-"))
@example(17, 0xC1)
def test_a_character_that_is_none_is_found_at_every_place(native, at, character):
    text = bytearray(ALPHABET)
    text[at] = character
    told = decoded(native, bytes(text) + b'"')
    if character == ord('"') and at % 4 == 0:
        assert told == (base64.b64decode(ALPHABET[:at]), at)
    elif character in ALPHABET:
        assert told == (base64.b64decode(bytes(text)), 64)
    else:
        assert told is None  # "=" at the end too: bits are left over that belong to no byte


@given(st.lists(st.integers(-32_768, 32_767), max_size=90))
@example([-32_768] * 40)
def test_loudness_and_peak(native, values):
    samples = np.array(values, dtype=np.int16).tobytes()
    assert native.loudness(samples, len(values)) == rms(samples, 2)
    assert native.loudest(samples, len(values)) == peak(samples, 2)
