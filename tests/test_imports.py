"""Who may import whom, read from the source of every module. The architecture stands on these lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "raysearch"
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))
COMMANDS = {
    "__main__",
    "cli",
    "verbs",
    "tune",
    "job",
    "plan",
    "evaluate",
    "export",
    "predict",
    "pipeline",
    "progress",
    "finish",
    "card",
    "caching",
    "explain",
    "machine",
    "pictures",
    "serve",
    "starting_head",
}

# A part of the package (a subpackage, or a module at its top) -> the parts that it may import, itself aside.
_DATA_AND_MODELS = {"errors", "files", "recipe", "data", "models"}
_TRAINING = _DATA_AND_MODELS | {"activations"}
_SEARCH = _TRAINING | {"training", "space", "run", "reporting", "intervals", "storage", "sync"}
# (a search writes its run folder)
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "storage": {"errors", "files"},
    "sync": {"errors", "run", "storage"},
    "remote": {"data", "errors", "files", "storage"},
    "intervals": set(),
    "recipe": {"errors"},
    "data": {"errors", "files", "recipe", "storage"},
    "models": {"errors", "recipe"},
    "activations": _DATA_AND_MODELS,
    "training": _TRAINING,
    "space": {"errors", "recipe", "space_check"},
    "space_check": {"errors", "recipe", "models", "space"},  # the last for its type only
    "replay": {"errors", "recipe", "space", "space_check"},
    "search": _SEARCH,
    "reporting": {"errors", "files", "intervals", "recipe"},
    "run": {
        "errors",
        "files",
        "recipe",
        "reporting",
        "predict",
        "export",
        "tune",
        "remote",
        "storage",
    },  # the last five only when asked to predict, to export, to start, or for a run in a storage
    **dict.fromkeys(COMMANDS, _SEARCH | {"search", "replay", "remote"} | COMMANDS),
}

# A library -> the only modules that may import it.
ONLY_IN: dict[str, set[str]] = {
    "albumentations": {"raysearch/data/augment.py"},
    "ray": {
        "raysearch/search/runner.py",
        "raysearch/search/actor.py",
        "raysearch/search/cluster.py",
        "raysearch/search/crew.py",
        "raysearch/search/relay.py",
        "raysearch/search/network.py",
        "raysearch/search/refit.py",
        "raysearch/space.py",
    },
    **{name: {"raysearch/export.py"} for name in ("onnx", "onnx_ir", "onnxruntime", "onnxscript")},
    "pyarrow": {"raysearch/storage.py"},
    "wandb": {"raysearch/search/tracking/wandb_runs.py"},
    "tensorboardX": {"raysearch/search/tracking/tensorboard.py"},
}

# Modules that only think: the same events in, the same decisions out, on any machine at any time.
# What they may import of ours is checked too: see `test_a_pure_module_stands_on_pure_ones`.
PURE = {
    *(f"raysearch/search/{name}.py" for name in ("controller", "asha", "capacity", "packs", "tally", "tree", "trial")),
    *(f"raysearch/activations/{name}.py" for name in ("planner", "forecast")),
}
IMPURE = {"ray", "torch", "optuna", "time", "datetime", "random", "os", "pathlib"}


def imported(source: str) -> Iterator[str]:
    """The full names of what a module imports, wherever in it, and for type checks too; relative imports as ".name"."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def part_of(name: str) -> str:
    """data.pixels.decode -> data; run -> run; search.pipeline.start -> search.pipeline."""
    first, *rest = name.split(".")
    within = f"{first}.{rest[0]}" if rest else first
    return within if within in MAY_IMPORT else first


def violations(module: str, source: str) -> list[str]:
    """What the module `module` (a path from the root) imports that it must not; a sentence each."""
    wrong = []
    part = part_of(module.removeprefix("raysearch/").removesuffix(".py").replace("/", "."))
    if part not in MAY_IMPORT and part not in {"__init__", "__main__"}:
        wrong.append(f"{module}: the part {part!r} has no line in MAY_IMPORT; say what it may import")
    for name in imported(source):
        if name.startswith("."):
            wrong.append(f"{module} imports {name}: write the full name")
            continue
        library, *inner = name.split(".")
        if library in ONLY_IN and module not in ONLY_IN[library]:
            wrong.append(f"{module} imports {library}: only {', '.join(sorted(ONLY_IN[library]))} may")
        if module in PURE and library in IMPURE:
            wrong.append(f"{module} imports {library}: it must stay pure")
        target = part_of(".".join(inner)) if library == "raysearch" and inner else part
        if target != part and target in MAY_IMPORT and target not in MAY_IMPORT.get(part, ()):
            wrong.append(f"{module} imports raysearch.{target}: {part} may not")
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_imports_keep_to_the_lines(module):
    assert violations(module, (ROOT / module).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", sorted(PURE & set(MODULES)))
def test_a_pure_module_stands_on_pure_ones(module):
    ours = {name for name in imported((ROOT / module).read_text(encoding="utf-8")) if name.startswith("raysearch.")}
    pure = {path.removesuffix(".py").replace("/", ".") for path in PURE} | {"raysearch.errors", "raysearch.recipe"}
    assert {name for name in ours if name not in pure and name.rpartition(".")[0] not in pure} == set()


@pytest.mark.parametrize("space", sorted((ROOT / "search_spaces").glob("*.py")), ids=lambda path: path.name)
def test_a_space_needs_ray_tune_and_our_words_only(space):
    libraries = {name.split(".")[0] for name in imported(space.read_text(encoding="utf-8"))}
    assert libraries <= {"__future__", "ray", "raysearch"}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("raysearch/data/pixels.py", "import albumentations as A"),
        ("raysearch/data/pixels.py", "from raysearch.models.registry import BACKBONES"),
        ("raysearch/models/head.py", "from raysearch.data import pixels"),
        ("raysearch/models/head.py", "from raysearch import data"),
        ("raysearch/models/head.py", "from ..data import pixels"),
        ("raysearch/activations/live.py", "import raysearch.training.loop"),
        ("raysearch/training/loop.py", "import ray.train"),
        ("raysearch/training/loop.py", "def report():\n    from ray import tune"),
        ("raysearch/training/loop.py", "from raysearch.search.controller import Controller"),
        ("raysearch/search/runner.py", "from raysearch.tune import main"),
        ("raysearch/search/runner.py", "from raysearch.pipeline import start"),
        ("raysearch/search/runner.py", "from raysearch import pipeline"),
        ("raysearch/run.py", "from raysearch.search.runner import run_segments"),
        ("raysearch/search/sampler.py", "from ray.tune.search.sample import Domain"),
        ("raysearch/search/controller.py", "import torch"),
        ("raysearch/search/asha.py", "from time import monotonic"),
        ("raysearch/search/runner.py", "import wandb"),
        ("raysearch/reporting/tables.py", "from raysearch.run import Run"),
        ("raysearch/reporting/tables.py", "from raysearch.training.metrics import METRICS"),
        ("raysearch/recipe.py", "from raysearch.models.registry import BACKBONES"),
        ("raysearch/helpers.py", "import json"),
    ],
)
def test_a_crossed_line_is_seen(module, line):
    assert violations(module, line) != []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("raysearch/data/augment.py", "import albumentations as A"),
        ("raysearch/activations/live.py", "from raysearch.data.augment import Augmenter"),
        ("raysearch/search/runner.py", "from ray import tune"),
        ("raysearch/tune.py", "from raysearch.search.runner import search"),
        ("raysearch/reporting/tables.py", "from raysearch.recipe import flatten"),
    ],
)
def test_an_allowed_import_is_let_through(module, line):
    assert violations(module, line) == []
