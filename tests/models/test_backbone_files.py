"""A backbone is one file and a space is one file: what lies in their folders is offered, and nothing else names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raysearch.models.backbones import NAMES

ROOT = Path(__file__).resolve().parents[2]

BACKBONE = """
from collections import OrderedDict
from torch import nn
from raysearch.models.spec import BackboneSpec


def build():
    block1 = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 5, 3, stride=2), relu=nn.ReLU()))
    return nn.Sequential(OrderedDict(block1=block1))


SPEC = BackboneSpec(name="tiny_net", block_names=("block1",), channels=5, min_image_size=3, network=build)
"""

TRAINED = """
from raysearch.models.boundary import build_classifier
from raysearch.models.registry import BACKBONES
from raysearch.recipe import Recipe, Stage
recipe = Recipe(backbone="tiny_net", image_size=8, schedule=(Stage(depth=1, epochs=1),))
print(list(BACKBONES), list(dict(build_classifier(recipe, 3).named_children())))
"""

HELP = """
import sys
from raysearch.tune import main
try:
    main(["--help"])
except SystemExit as end:
    print("torch" in sys.modules, end.code)
"""


@pytest.fixture(scope="module")
def with_a_file_more(tmp_path_factory) -> Path:
    """A copy of the package with a backbone more and a space more, as somebody who adds them has it."""
    root = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns("__pycache__", "assets")
    shutil.copytree(ROOT / "raysearch", root / "raysearch", ignore=ignored)
    shutil.copytree(ROOT / "search_spaces", root / "search_spaces", ignore=ignored)
    (root / "raysearch/models/backbones/tiny_net.py").write_text(BACKBONE)
    shutil.copy(root / "search_spaces/baseline.py", root / "search_spaces/mine_alone.py")
    return root


def said(root: Path, code: str) -> str:
    """What the code prints where `root` is the clone."""
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_backbone_dropped_into_the_folder_is_one_of_the_registry(with_a_file_more):
    backbones, children = said(with_a_file_more, TRAINED).split("] [")
    assert backbones == str([*sorted([*NAMES, "tiny_net"])]).removesuffix("]")
    assert children == "'block1', 'pool', 'head']\n"


def test_help_lists_what_lies_in_the_folders_without_torch(with_a_file_more):
    shown = said(with_a_file_more, HELP)
    assert shown.splitlines()[-1] == "False 0", "torch takes seconds to import, and --help should answer at once"
    assert "resnet50, simple_cnn, swin_t, tiny_net, vgg16, vgg16_bn, vgg19" in " ".join(shown.replace("│", " ").split())
    for space in ("baseline", "fine_tune", "mine_alone"):
        assert space in shown
