from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import cfdiff

ROOT = Path(cfdiff.__file__).parent
# What each package may import besides itself; the ground and the package itself are open to all.
GROUND = {"errors", "files", "hdf5", "progress", "registry", "remote", "roles", "shard", "stopping", "version"}
EDITING = {"edit", "figures", "models", "data", "store", "metrics", "engine", "settings"}
TASKS = {
    *("translate", "generate", "bag", "evaluate", "join", "doctor", "tune", "fit", "report", "train", "mil", "export"),
    *("supervise", "zero_shot"),
}
ALLOWED = {
    # What a user imports: names of what is below, which are imported when they are first used.
    "__init__": {*TASKS, "modelfiles", "figures", "models", "data", "store", "api"},  # for type checkers only
    "api": {"settings"},
    "cli": {*TASKS, "modelfiles", "figures", "models", "data", "settings", "api"},
    "report": {
        "bag",
        "evaluate",
        "figures",
        "models",
        "data",
        "store",
        "metrics",
        "settings",
    },
    "translate": {*EDITING, "join", "workers"},
    "fit": {
        *EDITING - {"figures", "metrics"},
        *TASKS - {"bag", "fit", "generate", "mil", "export", "supervise", "zero_shot"},
    },
    "export": {"data", "store", "settings"},
    "generate": EDITING,
    "bag": {*EDITING, "join", "workers"},
    "evaluate": {*EDITING - {"figures"}, "workers"},
    # Below the commands whose shards it joins: they take its settings, and it finds them in the registry.
    "join": {"store", "settings", "workers"},
    "doctor": EDITING - {"figures", "store"},
    "tune": EDITING - {"models"},
    "train": {"models", "data", "store", "metrics", "engine", "settings"},
    "mil": {"train", *EDITING},  # a bag model is one more training; `edit` picks the device
    "zero_shot": {"train", *EDITING - {"figures", "store"}},  # the texts of `train`, the device of `edit`
    "supervise": {"train", "models", "data", "store", "metrics", "engine", "settings"},
    "modelfiles": {"models", "engine", "settings"},
    "edit": {"models", "data", "store", "engine", "settings"},
    "figures": {"data", "store", "settings"},
    "workers": {"settings"},
    "models": {"engine"},
    "data": set(),
    "store": {"metrics"},
    "metrics": set(),
    "engine": set(),
    "settings": set(),
    "progress": set(),
    "registry": set(),
    "remote": set(),
    "roles": set(),
    "shard": set(),
    "stopping": set(),
    "version": set(),
    "errors": set(),
    "files": set(),
    "hdf5": set(),
    "__main__": {"cli"},
}
WITHOUT_TORCH = ("__init__", "api", "files", "hdf5", "store", "figures", "data", "cli/app", "workers", "join", "shard")
WITH_TORCH = ("data/values",)  # images to and from the network's tensors


def _modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "_bundled" not in path.parts)


def _imports(path: Path) -> set[str]:
    """The dotted names that a module imports anywhere, from `cfdiff.x` and others."""
    package = ("cfdiff", *path.relative_to(ROOT).parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            stem = ".".join(part for part in (base, node.module) if part)
            found |= {f"{stem}.{alias.name}" for alias in node.names} if stem == "cfdiff" else {stem}
    return found


def _part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_imports_go_down_only() -> None:
    wrong = []
    for path in _modules():
        part = _part(path)
        callable_too = {"api"} if path.name == "__init__.py" and part in TASKS else set()
        for name in _imports(path):
            target = name.split(".")[1] if name.startswith("cfdiff.") else None
            inside = target is not None and ((ROOT / target).is_dir() or (ROOT / f"{target}.py").is_file())
            if inside and target not in {part, *GROUND, *ALLOWED[part], *callable_too}:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_every_part_of_the_package_has_a_place_in_the_layers() -> None:
    assert {_part(path) for path in _modules()} <= set(ALLOWED)


def test_the_light_parts_do_not_import_torch() -> None:
    wrong = []
    for path in _modules():
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        light = name.startswith(WITHOUT_TORCH) and name not in WITH_TORCH
        if light and any(module.split(".")[0] == "torch" for module in _imports(path)):
            wrong.append(name)
    assert not wrong


def test_no_message_says_a_name_as_numpy_writes_it() -> None:
    """An element of an array of names is np.str_('a') to repr: what is shown of it is str(...) first."""
    of_arrays = re.compile(r"\{[\w.]*\b(ids|groups|splits|pairs)\[[^{}]*\]!r\}")
    wrong = {path.name for path in _modules() if of_arrays.search(path.read_text())}
    assert wrong == set()


def test_only_the_store_and_the_readers_know_hdf5() -> None:
    users = {_part(path) for path in _modules() if any(name.split(".")[0] == "h5py" for name in _imports(path))}
    assert users <= {"store", "data", "hdf5"}


def test_every_package_that_is_imported_is_a_declared_dependency() -> None:
    """The wheel's own test borrows the environment of the checkout, so a forgotten dependency would pass there."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    extras = [entry for name, part in project["optional-dependencies"].items() if name != "dev" for entry in part]
    declared = {re.split(r"[<>=!~ \[]", entry)[0].lower() for entry in [*project["dependencies"], *extras]}
    imported = {name.split(".")[0] for path in _modules() for name in _imports(path)}
    foreign = imported - set(sys.stdlib_module_names) - {"cfdiff"}
    of_module = importlib.metadata.packages_distributions()
    undeclared = {name for name in foreign if not {d.lower() for d in of_module.get(name, [name])} & declared}
    assert undeclared == set()
