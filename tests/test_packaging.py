"""The wheel holds exactly the folders and their data, and the pins agree with the ranges."""

import itertools
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
ROOMS = ["agents", "configs", "envs", "rewards", "rl", "sft"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WEIGHTS = (".safetensors", ".json", ".txt")


def data_files() -> set[str]:
    """What a wheel has to hold besides code: configs, type markers and shipped checkpoints."""
    found = [*ROOT.glob("configs/**/*.yaml"), *(ROOT / room / "py.typed" for room in ROOMS if room != "configs")]
    found += [path for path in ROOT.glob("agents/bagel/weights/*/*") if path.suffix in WEIGHTS or path.stem == "README"]
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_every_package_is_listed():
    listed = PROJECT["tool"]["setuptools"]["packages"]
    found = {path.parent for room in ROOMS for path in (ROOT / room).rglob("__init__.py")}
    assert sorted(listed) == sorted("strokes." + ".".join(path.relative_to(ROOT).parts) for path in found)


def test_every_folder_with_code_is_a_package():
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_a_folder_imported_under_its_bare_name_is_an_error():
    # With absolute imports inside, this would load a second copy of every class.
    code = "import sys; sys.path.insert(0, '.'); import agents.draw"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "beyond top-level package" in result.stderr


def test_every_requirement_is_pinned_within_its_range():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = itertools.chain(PROJECT["project"]["dependencies"], *extras)
    for requirement in map(Requirement, wanted):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in pins, f"{name} is not pinned"
        assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]} is outside {requirement}"


def test_every_console_script_exists():
    for target in PROJECT["project"]["scripts"].values():
        module, function = target.split(":")
        source = (ROOT / Path(*module.split(".")[1:])).with_suffix(".py").read_text()
        assert re.search(rf"^def {function}\(", source, re.MULTILINE), target


def test_shipped_checkpoints_stay_small_and_say_what_they_are():
    for folder in ROOT.glob("agents/bagel/weights/*"):
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 14e6
        assert (folder / "README.md").exists()


@pytest.mark.slow
def test_the_wheel_holds_nested_packages_configs_and_weights(tmp_path):
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(".venv", ".git", "outputs", "build"))
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-q", "-w", str(tmp_path), "."]
    subprocess.run(wheel, cwd=copy, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        names = set(archive.namelist())
    code = {path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    expected = {f"strokes/{name}" for name in code | data_files()}
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == expected
