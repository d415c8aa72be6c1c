"""The architecture, read off the imports: layers point one way, clocks and loops live where they belong."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "voxload"

# what each package may import of the others; a package may always import itself
FOUNDATION = {
    "errors",
    "certificates",
    "clock",
    "ring",
    "inlet",
    "wheel",
    "timer",
    "process",
    "start",
    "child",
    "serving",
    "front",
    "model",
    "draws",
    "quotas",
    "speech_protocol",
    "wording",
}
PARTS = FOUNDATION | {"audio", "dialects", "measure"}
ALLOWED = {
    "errors": set(),
    "clock": set(),
    "ring": {"_ring"},
    "inlet": {"_inlet", "_frame_method", "clock"},
    "_inlet": set(),
    "_frame_method": set(),
    "wheel": {"clock", "ring"},
    "process": set(),
    "certificates": {"errors", "clock"},
    "start": {"process"},
    "child": {"errors", "process", "start"},
    "serving": {"errors", "process"},
    "timer": {"clock", "ring", "wheel"},
    "front": set(),
    "quotas": {"clock"},
    "speech_protocol": {"clock"},
    "wording": set(),
    "draws": {"model"},
    "model": {"errors", "clock"},
    "load": FOUNDATION | {"audio"},
    "audio": FOUNDATION,
    "dialects": FOUNDATION,
    "measure": FOUNDATION,
    "engine": PARTS | {"load"},
    "verdict": FOUNDATION | {"measure"},
    "report": FOUNDATION | {"measure"},
    "twin": FOUNDATION | {"audio", "dialects"},
    "runners": PARTS | {"load", "engine", "verdict", "services", "__init__"},  # probes of a run are component tests
    "locust": PARTS | {"load", "engine", "runners", "verdict", "report", "__init__"},
    "importers": FOUNDATION,
    "planning": PARTS | {"load", "runners"},
    "standins": FOUNDATION | {"audio", "dialects"},
    "services": PARTS | {"load", "verdict", "standins"},
    "testing": PARTS | {"load", "engine", "twin"},
    "cli": PARTS
    | {
        "load",
        "engine",
        "runners",
        "planning",
        "importers",
        "verdict",
        "report",
        "twin",
        "standins",
        "services",
        "__init__",
    },
    "__main__": {"cli", "process"},
    "__init__": set(),
}
EVENT_LOOPS = (
    "engine/network.py",
    "engine/reach.py",
    "engine/receiver.py",
    "engine/sources.py",
    "engine/transport.py",
    "engine/trunk.py",
    "engine/shard.py",
    "engine/wire.py",
    "serving.py",
    "front.py",
    "runners/",
    "twin/",
    "standins/",
    "services/",
    "cli/",
    "testing/",
)
LOOPS = {"asyncio", "uvloop", "socket", "aiohttp", "picows"}
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70


@cache
def modules():
    return tuple(sorted(SOURCE.rglob("*.py")))


@cache
def tree_of(path):
    return ast.parse(path.read_text())


def name_of(path):
    return str(path.relative_to(SOURCE))


def package_of(path):
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


@cache
def imports(path):
    """Every module that a file imports, wherever the import stands."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module == "voxload":
                found += [f"voxload.{alias.name}" for alias in node.names]
            else:
                found.append(node.module)
    return found


def none_of(breaches):
    """All breaches of a rule at once, one a line."""
    found = list(breaches)
    assert not found, "\n".join(["", *found])


def test_imports_point_one_way():
    def breaches():
        for path in modules():
            package = package_of(path)
            if package not in ALLOWED:
                yield f"say in ALLOWED what {package} may import"
                continue
            for imported in imports(path):
                parts = imported.split(".")
                if parts[0] != "voxload" or len(parts) == 1:
                    continue
                files = (SOURCE / f"{parts[1]}{end}" for end in ("", ".py", ".pyi"))
                other = parts[1] if any(file.exists() for file in files) else "__init__"
                if other != package and other not in ALLOWED[package]:
                    yield f"{name_of(path)} imports voxload.{other}"

    none_of(breaches())


def test_time_is_read_in_one_place():
    used = {name_of(path): {name.split(".")[0] for name in imports(path)} for path in modules()}
    none_of(name for name, read in used.items() if name != "clock.py" and read & {"time", "datetime"})


def test_event_loops_live_at_the_edge():
    def breaches():
        for path in modules():
            name, used = name_of(path), {name.split(".")[0] for name in imports(path)}
            if not name.startswith(EVENT_LOOPS):
                yield from (
                    f"{name} imports {it}" for it in used & {"asyncio", "uvloop", "socket", "aiohttp", "picows"}
                )
            if not name.startswith(("runners/locust", "locust")):
                yield from (f"{name} imports {it}" for it in used & {"gevent", "locust"})

    none_of(breaches())


def test_there_is_no_cycle_between_packages():
    edges = {}
    for path in modules():
        for imported in imports(path):
            parts = imported.split(".")
            if parts[0] == "voxload" and len(parts) > 1 and parts[1] != package_of(path):
                edges.setdefault(package_of(path), set()).add(parts[1])
    done, active = set(), []

    def visit(package):
        assert package not in active, f"a cycle: {' → '.join([*active, package])}"
        if package not in done:
            active.append(package)
            for other in sorted(edges.get(package, ())):
                visit(other)
            active.pop()
            done.add(package)

    for package in sorted(edges):
        visit(package)


def test_files_and_functions_stay_small():
    def breaches():
        for path in modules():
            lines = path.read_text().count("\n")
            if lines > FILE_LINES_MAX:
                yield f"{name_of(path)} has grown too long: {lines} lines; is it two things?"
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = node.end_lineno - node.lineno + 1
                    if length > FUNCTION_LINES_MAX:
                        yield f"{name_of(path)}:{node.lineno} {node.name} has {length} lines"

    none_of(breaches())


def test_every_module_opens_with_a_sentence():
    opened = {name_of(path): (ast.get_docstring(tree_of(path)) or "").split("\n")[0] for path in modules()}
    none_of(f"{name}: {line!r} is no sentence" for name, line in opened.items() if not re.match(r".+[.:]$", line))


def test_no_file_holds_a_path_of_one_machine():
    for folder in ("src", "tests", "examples", "docs", "scripts", "benchmarks"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in {".py", ".md", ".yaml", ".json", ".html", ".toml"}:
                assert not re.search(r"(?<![\w.])/(work|root|home/\w+)/", path.read_text()), path
