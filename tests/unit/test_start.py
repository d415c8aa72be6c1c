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
