"""What a stranger installs: dependencies as declared, the versions that were tested, and a wheel that is complete."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("export", "heif", "dicom", "timm")
"""Groups of optional dependencies whose libraries the package imports."""
CONSTRAINTS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def declared(extra: str | None = None) -> dict[str, Requirement]:
    """Distribution name -> requirement, as pyproject.toml says it."""
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


def third_party_imports(folder: Path) -> set[str]:
    """Top-level names of other people's libraries that the modules under `folder` import."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"raysearch"}


@pytest.mark.parametrize("folder", ["raysearch", "search_spaces"])
def test_everything_that_is_imported_is_declared(folder):
    owners = metadata.packages_distributions()
    known = {name for extra in (None, *EXTRAS) for name in declared(extra)}
    undeclared = {
        name
        for name in third_party_imports(ROOT / folder)
        if not {canonicalize_name(owner) for owner in owners.get(name, [])} & known
    }
    # opencv is albumentations' own engine, and which of its four packages is installed is albumentations' choice.
    assert undeclared - {"cv2"} == set()


def test_every_direct_dependency_has_a_tested_version():
    tested = {canonicalize_name(requirement.name) for requirement in CONSTRAINTS}
    assert {name for extra in (None, "dev", *EXTRAS) for name in declared(extra)} - tested == set()


def test_developers_have_what_every_test_needs():
    assert all(declared(extra).items() <= declared("dev").items() for extra in EXTRAS)


def test_the_tested_versions_satisfy_what_is_declared():
    tested = {canonicalize_name(line.name): next(iter(line.specifier)).version for line in CONSTRAINTS}
    for name, requirement in {**declared(), **declared("dev")}.items():
        assert requirement.specifier.contains(tested[name]), f"{requirement} does not admit {tested[name]}"


def test_constraints_are_exact_and_named_once():
    names = [canonicalize_name(requirement.name) for requirement in CONSTRAINTS]
    assert sorted(set(names)) == sorted(names)
    assert all([spec.operator for spec in requirement.specifier] == ["=="] for requirement in CONSTRAINTS)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from this tree, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_has_what_the_tree_has_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "raysearch").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    spaces = {f"raysearch/search_spaces/{path.name}" for path in (ROOT / "search_spaces").glob("*.py")}
    assert names == here | spaces


def test_the_wheel_carries_licence_notice_and_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert any(name.endswith("licenses/LICENSE") for name in names)
        assert any(name.endswith("licenses/NOTICE") for name in names)
        entry_points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "raysearch = raysearch.cli.main:main" in entry_points


@pytest.mark.slow
def test_an_installed_wheel_finds_its_spaces_and_assets(wheel, tmp_path):
    """Run from a folder that has no clone: what is found must have come out of the wheel."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = tmp_path / "site" / "check.py"
    script.write_text(
        "from pathlib import Path\n"
        "import raysearch\n"
        "from raysearch.space.names import find_space\n"
        "here = Path(__file__).parent\n"
        "assert Path(raysearch.__file__).is_relative_to(here), raysearch.__file__\n"
        "assert Path(find_space('fine_tune')).is_relative_to(here), find_space('fine_tune')\n"
        "assert (here / 'raysearch/assets/cifar10-mini.zip').is_file()\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
