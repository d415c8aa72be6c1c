"""The proxy that the environment names for a target."""

import subprocess
import sys

import pytest

from voxload.engine import proxies
from voxload.errors import RunAbortedError


def test_which_proxy(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "proxy.test:3128")
    monkeypatch.setenv("ALL_PROXY", "socks5h://socks.test:1080")
    monkeypatch.setenv("NO_PROXY", "near.test")
    proxies._proxy_for.cache_clear()
    assert proxies.proxy_for("wss://agent.test/x") == "http://proxy.test:3128"
    assert proxies.proxy_for("ws://agent.test/x") == "socks5://socks.test:1080"
    assert proxies.proxy_for("https://near.test") is None
    assert proxies.proxy_for("https://127.0.0.1:1") is None
    assert proxies.proxy_for("https://localhost:1") is None
    monkeypatch.setenv("HTTPS_PROXY", "gopher://proxy.test")
    proxies._proxy_for.cache_clear()
    with pytest.raises(RunAbortedError, match="gopher"):
        proxies.proxy_for("https://agent.test")
    proxies._proxy_for.cache_clear()


def test_the_command_does_not_wait_for_the_http_library_of_its_shards():
    code = "import sys, voxload.cli.run, voxload.cli.check; print('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
