"""Signals that ask a command to end: each is heard by name, `nohup` is kept, results are written first."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from voxload.cli import component
from voxload.cli.signals import ENDING, HeldBack, on_ending_signal
from voxload.report.files import write_reports


@pytest.fixture
def usual_signals() -> Iterator[None]:
    """As in a terminal: what starts tests in the background may have them ignore Ctrl-C."""
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("usual_signals")
def test_the_first_signal_waits_for_the_results_and_the_second_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    with HeldBack():
        os.kill(os.getpid(), signal.SIGTERM)
        assert "writing the results" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_is_gone_ends_the_load_unless_nohup_says_otherwise(ignored: bool) -> None:
    async def hear() -> list[str]:
        heard: list[str] = []
        on_ending_signal(heard.append)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.01)
        return heard

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        assert asyncio.run(hear()) == [*([] if ignored else ["SIGHUP"]), "SIGTERM", "Ctrl-C"]
    finally:
        signal.signal(signal.SIGHUP, before)


class Answers(BaseHTTPRequestHandler):
    """Says yes to every GET."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.mark.usefixtures("usual_signals")
def test_ctrl_c_while_a_component_writes_its_reports_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return write_reports(*args)

    monkeypatch.setattr(component, "write_reports", interrupted)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        words = ["http", "--target", url, "--users", "1", "--duration", "300ms", "--quiet", "--out", str(tmp_path)]
        component.component_command.main(words, standalone_mode=False)
        server.shutdown()
    assert list(tmp_path.glob("*/summary.json"))
    assert list(tmp_path.glob("*/report.html"))
    assert "writing the results; once more ends at once" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
