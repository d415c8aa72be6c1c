"""The folder of a run: calls are appended as they end, reports are written in one piece or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

import msgspec

from voxload.errors import BadInputError, Problem, RunAbortedError
from voxload.measure.snapshot import Snapshot
from voxload.measure.summary import CallRecord
from voxload.runners.appending import CompressedFile, read_compressed
from voxload.runners.parts import PartFile

CALLS_FILE = "calls.jsonl.zst"


class ResultsFolder:
    """`results/RUN/`, made anew for each run; with a `share` of a test's load it keeps what merging the parts takes.

    Raises:
        BadInputError: the folder cannot be made.
    """

    def __init__(self, path: Path, share: float | None = None) -> None:
        self.path = path
        self._calls = CompressedFile(path / CALLS_FILE)
        self._part = None if share is None else PartFile(path, share)
        self.elsewhere: Path | None = None
        """The folder of those reports that found no place here (a full disk); None while all is well."""
        try:
            path.mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            if not path.exists():  # a link on the way leads nowhere
                raise BadInputError(
                    [Problem("cannot be made: a link or a file is in its way", str(path), 0, "see --out")]
                ) from None
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
        self._calls.append(b"".join(msgspec.json.encode(record) + b"\n" for record in records))

    def take(self, snapshot: Snapshot, start_ns: int) -> None:
        """Add a snapshot's calls, and the snapshot where this is a part; the run began at `start_ns` (monotonic)."""
        self.append_calls(snapshot.calls)
        if self._part is not None:
            self._part.take(snapshot, start_ns)

    def close(self) -> None:
        """Finish the files that grow."""
        self._calls.close()
        if self._part is not None:
            self._part.close()

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
        found = [f"{self._calls.write_error}; calls are missing"] if self._calls.write_error else []
        if self._part is not None and self._part.write_error:
            found.append(f"{self._part.write_error}; this part cannot be merged in full")
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
    for chunk in read_compressed(path / CALLS_FILE):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield decoder.decode(line)
