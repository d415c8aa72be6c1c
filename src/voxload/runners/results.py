"""The folder of a run: calls are appended as they end, reports are written in one piece or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Self

import msgspec
import zstandard

from voxload.errors import BadInputError, Problem, RunAbortedError
from voxload.measure.summary import CallRecord

CALLS_FILE = "calls.jsonl.zst"
_SMALL_WINDOW = zstandard.ZstdCompressionParameters.from_level(3, window_log=17)
"""128 KiB, which is used up in seconds; the usual 2 MiB would fill over many minutes and look like a leak."""


class ResultsFolder:
    """`results/RUN/`, made anew for each run.

    Raises:
        BadInputError: the folder cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._calls: IO[bytes] | None = None
        self._stream: zstandard.ZstdCompressionWriter | None = None
        self.write_error = ""
        """Why calls are missing from the file (a full disk); empty while all is well."""
        self.elsewhere: Path | None = None
        """The folder of those reports that found no place here (a full disk); None while all is well."""
        try:
            path.mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            raise BadInputError([Problem("the folder exists already", str(path), 0, "choose another --out")]) from None
        except OSError as error:
            raise BadInputError([Problem(f"cannot be made: {error.strerror}", str(path), 0, "see --out")]) from None

    def __enter__(self) -> Self:
        """While in it, a run that could not begin leaves no empty folder, which would look like a run."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Remove the folder after an error if nothing is in it."""
        if kind is not None:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def append_calls(self, records: Iterable[CallRecord]) -> None:
        """Add finished calls and flush, so that a crash leaves what was measured; a full disk does not end the run."""
        if self.write_error:
            return
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        try:
            if self._stream is None:
                self._calls = (self.path / CALLS_FILE).open("wb")
                compressor = zstandard.ZstdCompressor(compression_params=_SMALL_WINDOW)
                self._stream = compressor.stream_writer(self._calls)
            if lines:
                self._stream.write(lines)
                self._stream.flush(zstandard.FLUSH_BLOCK)
                assert self._calls is not None
                self._calls.flush()
        except OSError as error:
            self.write_error = f"{CALLS_FILE}: {error.strerror}"

    def close(self) -> None:
        """Finish the file of calls."""
        try:
            if self._stream is not None:
                self._stream.flush(zstandard.FLUSH_FRAME)
            if self._calls is not None:
                self._calls.close()
        except OSError as error:
            self.write_error = self.write_error or f"{CALLS_FILE}: {error.strerror}"
        self._stream = self._calls = None

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file atomically, where this folder's disk is full into a temporary folder; see `write_atomically`."""
        try:
            return write_atomically(self.path / name, content)
        except RunAbortedError as error:
            try:
                if self.elsewhere is None:
                    self.elsewhere = Path(tempfile.mkdtemp(prefix=f"{self.path.name}-"))
                return write_atomically(self.elsewhere / name, content)
            except (OSError, RunAbortedError):
                raise error from None

    def losses(self) -> list[str]:
        """Return what is not in the folder, in words; nothing while all is well."""
        found = [f"{self.write_error}; calls are missing"] if self.write_error else []
        if self.elsewhere is not None:
            found.append(f"{self.path} took no more files: the reports that are missing there are in {self.elsewhere}")
        return found


class RecordingFiles(Mapping[str, bytes]):
    """The recordings in a run's folder by name (`recordings/CALL.wav`), read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = sorted(str(path.relative_to(folder)) for path in folder.glob("recordings/*.wav"))

    def __getitem__(self, name: str) -> bytes:
        if name not in self._names:
            raise KeyError(name)
        return (self._folder / name).read_bytes()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def write_atomically(path: Path, content: bytes | str | Iterable[bytes]) -> Path:
    """Write a file, in one piece or several, by way of a temporary one: no reader ever sees half of it.

    Raises:
        RunAbortedError: the disk is full or the folder is gone.
    """
    text = content.encode() if isinstance(content, str) else content
    pieces = [text] if isinstance(text, bytes) else text
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise RunAbortedError(f"{path} could not be written: {error.strerror}") from None
    return path


def read_calls(path: Path) -> Iterator[CallRecord]:
    """Yield the calls of a run's folder; a file that was cut off by a crash gives what it holds."""
    decoder = msgspec.json.Decoder(CallRecord)
    rest = b""
    with (path / CALLS_FILE).open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file)
        while True:
            try:
                chunk = reader.read(1 << 16)
            except zstandard.ZstdError:
                break
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield decoder.decode(line)
