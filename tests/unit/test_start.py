"""Processes of ours begin soon: what is loaded is left out of garbage collection, libraries do only what is wanted."""

import gc
import os
import subprocess
import sys

import pytest

from voxload.process import load
from voxload.start import start_command


def test_what_is_loaded_is_left_out_of_garbage_collection_and_loaded_once(tmp_path, monkeypatch):
    (tmp_path / "a_module_to_load.py").write_text(
        "import gc\ncollected, parts = gc.isenabled(), [[] for _ in range(5)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = gc.get_freeze_count()
    loaded = load("a_module_to_load")
    frozen = gc.get_freeze_count()
    assert (loaded.collected, gc.isenabled(), frozen > before) == (False, True, True)
    assert load("a_module_to_load") is loaded
    assert gc.get_freeze_count() <= frozen, "loaded already: nothing more is frozen"
    gc.unfreeze()


def test_a_module_that_cannot_be_loaded_leaves_collection_as_it_was():
    with pytest.raises(ModuleNotFoundError):
        load("voxload.no_such_module")
    assert gc.isenabled()
    gc.unfreeze()


def test_a_module_is_run_with_its_arguments_and_its_exit_code(tmp_path):
    (tmp_path / "answer.py").write_text("import sys\ndef main():\n    print(sys.argv[1:])\n    return 3\n")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "__init__.py").touch()
    told = "os.environ['OPENBLAS_NUM_THREADS'], os.environ['PYDANTIC_DISABLE_PLUGINS']"
    (tmp_path / "whole" / "__main__.py").write_text(f"import os\ndef main():\n    print({told})\n    return 0\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OPENBLAS_NUM_THREADS": "7"}

    def run(*words):
        return subprocess.run(start_command(*words), capture_output=True, text=True, check=False, env=environment)

    done = run("answer", "one", "two")
    assert (done.returncode, done.stdout) == (3, "['one', 'two']\n"), done.stderr
    done = run("whole")
    assert (done.returncode, done.stdout) == (0, "7 __all__\n"), "the user's word stands"
    assert "-m" in start_command("answer")
    assert start_command("answer")[0] == sys.executable


HTTP = {"aiohttp", "picows", "cryptography"}
SERVERS = {"aiohttp.web", "prometheus_client"}
SCREEN = {"click", "rich", "jinja2", "ruamel"}
ANALYSIS = {"pandas", "scipy", "matplotlib", "simpy"}
VENDORS = {"azure", "openai", "redis", "opentelemetry", "requests", "httpx", "locust", "gevent"}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("voxload.start", {"voxload.cli", "voxload.model", "numpy", "pydantic", "msgspec", "asyncio"} | HTTP | SCREEN),
        ("voxload.__main__", {"numpy", "pydantic", "msgspec", "asyncio", "rich", "jinja2", "ruamel"} | HTTP),
        ("voxload.cli.run", HTTP | SERVERS),
        ("voxload.cli.check", HTTP | SERVERS | {"asyncio", "uvloop", "jinja2"}),
        ("voxload.cli.report", HTTP | SERVERS | {"asyncio", "uvloop", "pydantic", "ruamel"}),
        ("voxload.cli.baseline", HTTP | SERVERS | {"asyncio", "jinja2"}),
        ("voxload.cli.history", HTTP | SERVERS | {"asyncio", "pydantic", "ruamel"}),
        ("voxload.engine.shard", {"cryptography", "voxload.cli", "voxload.twin", "voxload.runners"} | SERVERS | SCREEN),
        ("voxload.twin.process", {"voxload.dialects", "numpy", "asyncio"} | HTTP | SERVERS),
        ("voxload.twin.__main__", {"cryptography", "voxload.cli", "voxload.engine", "voxload.model.scenario"} | SCREEN),
        ("voxload.twin.recogniser", {"pydantic", "asyncio", "msgspec"} | HTTP | SCREEN),
        ("voxload.standins.acs.process", {"voxload.dialects", "numpy", "asyncio", "jwt"} | HTTP | SERVERS),
        ("voxload.standins.acs.__main__", {"voxload.cli", "voxload.engine", "prometheus_client"} | SCREEN),
        (
            "voxload.standins.web",
            {"voxload.cli", "voxload.audio", "numpy", "picows", "cryptography", "prometheus_client"} | SCREEN,
        ),
        (
            "voxload.services.process",
            {"voxload.cli", "voxload.standins", "voxload.model.script"} | HTTP | SERVERS | SCREEN,
        ),
        ("voxload.measure.quality", {"pydantic", "asyncio"} | HTTP | SCREEN),
    ],
)
def test_a_process_does_not_load_what_it_seldom_uses(module, unwanted):
    code = f"import sys, {module}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = set(told.stdout.split()) & (unwanted | ANALYSIS | VENDORS)
    assert not found
