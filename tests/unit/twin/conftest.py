"""What several tests of the twin share."""

import pytest

from voxload.audio.corpus import load_corpus


@pytest.fixture(scope="session")
def corpus():
    return load_corpus()
