"""Folders of results that cannot be made: which one, why, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxload.errors import BadInputError
from voxload.runners.results import ResultsFolder


@pytest.mark.parametrize(
    ("place", "reason"),
    [("file/run", "Not a directory"), ("dangling/run", "a link or a file is in its way"), ("there", "exists already")],
)
def test_what_stands_in_the_way(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "there").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadInputError, match=reason):
        ResultsFolder(tmp_path / place)
