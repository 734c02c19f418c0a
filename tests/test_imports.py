"""Who may import whom, read from the source of every module. The architecture stands on these lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "raysearch"
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))

# The house, floor by floor: a package may import what stands on a line above its own, and nothing else. What shares a
# line stands side by side and does not know the other. "" is the package itself.
ORDER: tuple[frozenset[str], ...] = tuple(
    frozenset(floor.split())
    for floor in (
        "errors intervals",
        "storage recipe",
        "record models data",
        "space activations",
        "training",
        "search",
        "reporting",
        "workers winner",
        "job",
        "pipeline insight",
        "predict run tune",
        "cli",
        "__main__",
    )
)
FLOOR = {part: number for number, floor in enumerate(ORDER) for part in floor}

# Below that order, what a package must not know though it stands higher: its reasons are not those of the other.
NEVER: dict[str, set[str]] = {
    "search": {"data", "models", "activations", "training"},  # decides, and trains nothing
    "reporting": {"data", "models", "activations", "training", "search"},  # reads run folders
    "models": {"record", "storage"},
    "record": {"models", "data"},
}

# A library -> the only modules that may import it.
ONLY_IN: dict[str, set[str]] = {
    "albumentations": {"raysearch/data/augment.py"},
    "ray": {
        "raysearch/workers/runner.py",
        "raysearch/workers/actor.py",
        "raysearch/workers/gpu.py",
        "raysearch/workers/cluster.py",
        "raysearch/workers/crew.py",
        "raysearch/workers/relay.py",
        "raysearch/workers/network.py",
        "raysearch/workers/training_job.py",
        "raysearch/workers/session.py",
        "raysearch/space/load.py",
        "raysearch/space/domains.py",
    },
    **{name: {"raysearch/winner/formats.py"} for name in ("onnx", "onnx_ir", "onnxruntime", "onnxscript")},
    "pyarrow": {"raysearch/storage/remote.py", "raysearch/data/parquet.py"},
    "pydicom": {"raysearch/data/dicom.py"},
    "pillow_heif": {"raysearch/data/extras.py"},
    "cleanlab": {"raysearch/insight/label_errors.py"},
    "imagehash": {"raysearch/insight/duplicates.py"},
    "timm": {"raysearch/models/timm_networks.py", "raysearch/models/timm_blocks.py"},
    "huggingface_hub": {"raysearch/models/hub.py"},
    "wandb": {"raysearch/reporting/tracking/wandb_runs.py"},
    "tensorboardX": {"raysearch/reporting/tracking/tensorboard.py"},
}

# Modules that only think: the same events in, the same decisions out, on any machine at any time.
# What they may import of ours is checked too: see `test_a_pure_module_stands_on_pure_ones`.
PURE = {
    *(
        f"raysearch/search/{name}.py"
        for name in (
            *("state", "controller", "asha", "fronts", "rungs", "packs", "rules", "tally", "tree", "backbones"),
            *("compared", "portfolio"),
        )
    ),
    *(
        f"raysearch/record/{name}.py"
        for name in (
            *("info", "line", "events", "level_events", "final_events"),
            *("trial", "goal", "metric", "fronts", "prior"),
        )
    ),
    "raysearch/search/messages.py",
    "raysearch/workers/capacity.py",
    "raysearch/workers/order.py",
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


def dotted(module: str) -> str:
    """raysearch/data/pixels.py -> raysearch.data.pixels; raysearch/data/__init__.py -> raysearch.data."""
    return module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def part_of(name: str) -> str:
    """raysearch.data.pixels.decode -> data; raysearch -> ""."""
    return f"{name}.".split(".")[1]


def violations(module: str, source: str) -> list[str]:
    """What the module `module` (a path from the root) imports that it must not; a sentence each."""
    wrong = []
    part = part_of(dotted(module))
    if part and part not in FLOOR:
        wrong.append(f"{module}: {part!r} stands on no floor of ORDER; say where it belongs")
    for name in imported(source):
        if name.startswith("."):
            wrong.append(f"{module} imports {name}: write the full name")
            continue
        library = name.split(".")[0]
        if library in ONLY_IN and module not in ONLY_IN[library]:
            wrong.append(f"{module} imports {library}: only {', '.join(sorted(ONLY_IN[library]))} may")
        if module in PURE and library in IMPURE:
            wrong.append(f"{module} imports {library}: it must stay pure")
        target = part_of(name) if library == "raysearch" else ""
        if target in FLOOR and target != part and part in FLOOR:
            if FLOOR[target] >= FLOOR[part]:
                wrong.append(f"{module} imports raysearch.{target}, which does not stand below {part}")
            elif target in NEVER.get(part, ()):
                wrong.append(f"{module} imports raysearch.{target}: {part} must not know it")
    return wrong


def circles(sources: dict[str, str]) -> list[list[str]]:
    """Modules that import each other, directly or by others (Tarjan 1972), imports in functions and for types counted.

    Args:
        sources: text by dotted name.
    """
    edges = {
        module: {
            target
            for name in imported(source)
            for target in [next((known for known in _upwards(name) if known in sources), None)]
            if target not in (None, module) and not f"{module}.".startswith(f"{target}.")
        }
        for module, source in sources.items()
    }
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in sorted(edges[module]):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for module in edges:
        if module not in index:
            visit(module)
    return found


def _upwards(name: str) -> Iterator[str]:
    """a.b.c, a.b, a."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def test_no_module_imports_another_that_imports_it():
    assert circles({dotted(module): (ROOT / module).read_text(encoding="utf-8") for module in MODULES}) == []


def test_a_circle_is_seen_wherever_its_imports_stand():
    lazy = "def f():\n    from raysearch.b import x"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from raysearch.a import y"
    assert circles({"raysearch.a": lazy, "raysearch.b": "import raysearch.c", "raysearch.c": typed}) == [
        ["raysearch.a", "raysearch.b", "raysearch.c"]
    ]
    assert circles({"raysearch.a": lazy, "raysearch.b": ""}) == []


def test_few_doors():
    assert len([module for module in MODULES if module.count("/") == 1 and not module.endswith("__init__.py")]) <= 8


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
        ("raysearch/workers/runner.py", "from raysearch.tune import main"),
        ("raysearch/workers/runner.py", "from raysearch.pipeline import conduct"),
        ("raysearch/workers/runner.py", "from raysearch import pipeline"),
        ("raysearch/workers/runner.py", "from raysearch.winner.best import load_best"),
        ("raysearch/winner/export.py", "from raysearch.run import Run"),
        ("raysearch/search/sampler.py", "from ray.tune.search.sample import Domain"),
        ("raysearch/search/controller.py", "import torch"),
        ("raysearch/search/driver.py", "from raysearch.training.stage import open_stage"),
        ("raysearch/search/asha.py", "from time import monotonic"),
        ("raysearch/workers/runner.py", "import wandb"),
        ("raysearch/record/tables.py", "from raysearch.run import Run"),
        ("raysearch/record/tables.py", "from raysearch.training.metrics import stacked_metrics"),
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
        ("raysearch/workers/runner.py", "from ray import tune"),
        ("raysearch/tune.py", "from raysearch.workers.runner import search"),
        ("raysearch/record/tables.py", "from raysearch.recipe import flatten"),
    ],
)
def test_an_allowed_import_is_let_through(module, line):
    assert violations(module, line) == []
