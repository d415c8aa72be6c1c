"""What an error of a call's set-up says: the target's fault, the network's, or this machine's."""

import errno
import os

import aiohttp_socks
import pytest

from voxload.engine.transport import classify
from voxload.model.outcome import Outcome


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), Outcome.SHED, "ulimit -n"),
        (OSError(errno.ENFILE, os.strerror(errno.ENFILE)), Outcome.SHED, "ulimit -n"),
        (OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL)), Outcome.SHED, "source_addresses"),
        (OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)), Outcome.CONNECT_FAILED, "unreachable"),
        (aiohttp_socks.ProxyConnectionError(111, "refused"), Outcome.CONNECT_FAILED, "the proxy of the environment"),
        (aiohttp_socks.ProxyError("not allowed by its rules"), Outcome.CONNECT_FAILED, "not allowed by its rules"),
        (TimeoutError(), Outcome.SETUP_TIMEOUT, "in time"),
        (KeyError("a defect"), Outcome.INTERNAL_ERROR, "a defect"),
    ],
)
def test_the_outcome_and_the_words(error: BaseException, outcome: Outcome, words: str) -> None:
    found, reason = classify(error)
    assert found is outcome
    assert words in reason
