"""Compressed files that grow while a run goes on: a crash leaves what was written, a full disk ends no run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import zstandard

_SMALL_WINDOW = zstandard.ZstdCompressionParameters.from_level(3, window_log=17)
"""128 KiB, which is used up in seconds; the usual 2 MiB would fill over many minutes and look like a leak."""
_CHUNK_BYTES = 1 << 16


class CompressedFile:
    """A file to which bytes are added; each addition can be read as soon as it is made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._stream: zstandard.ZstdCompressionWriter | None = None
        self.write_error = ""
        """Why it is incomplete; empty while all is well."""

    def append(self, content: bytes) -> None:
        """Add bytes and flush; the file is made by the first addition, be it empty."""
        if self.write_error:
            return
        try:
            if self._stream is None:
                self._file = self._path.open("wb")
                compressor = zstandard.ZstdCompressor(compression_params=_SMALL_WINDOW)
                self._stream = compressor.stream_writer(self._file)
            if content:
                self._stream.write(content)
                self._stream.flush(zstandard.FLUSH_BLOCK)
                assert self._file is not None
                self._file.flush()
        except OSError as error:
            self.write_error = f"{self._path.name}: {error.strerror}"

    def close(self) -> None:
        """Finish the file."""
        try:
            if self._stream is not None:
                self._stream.flush(zstandard.FLUSH_FRAME)
            if self._file is not None:
                self._file.close()
        except OSError as error:
            self.write_error = self.write_error or f"{self._path.name}: {error.strerror}"
        self._stream = self._file = None


def read_compressed(path: Path) -> Iterator[bytes]:
    """Yield the content in pieces; a file that was cut off by a crash gives what it holds."""
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file)
        while True:
            try:
                chunk = reader.read(_CHUNK_BYTES)
            except zstandard.ZstdError:
                return
            if not chunk:
                return
            yield chunk
