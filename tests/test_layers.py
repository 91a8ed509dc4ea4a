"""Folders depend downwards only, and heavy dependencies stay where they are needed."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "envs": set(),
    "rewards": {"envs"},
    "agents": {"envs"},
    "sft": {"envs", "rewards", "agents"},
    "rl": {"envs", "rewards", "agents"},
}
LIGHT = {"envs", "rewards"}  # importable without the training stack
HEAVY = {"torch", "transformers", "trl", "peft", "ray", "hydra", "diffusers"}
ONLY_IN = {
    "ray": {"agents/pool.py", "rl/workers.py", "rl/sync.py"},
    "trl": {"rl/checkpoints.py", "rl/trainer.py", "rl/train.py", "rl/verifier.py"},
    "hydra": {
        "agents/command.py",  # what the entry files share
        "agents/draw.py",
        "sft/build.py",
        "sft/pretrain.py",
        "sft/train.py",
        "rl/train.py",
        "rl/evaluate.py",
        "rl/compare.py",
    },
}
LAZY = {"ray"}  # imported inside functions even in its own files
FILES = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]


class Import(NamedTuple):
    ours: str | None
    """The room imported from, where it is another one than the file's own."""
    theirs: str
    """The top-level module of an absolute import; "" for a relative one."""
    at_top: bool
    """Whether the import runs when the file is imported."""


def imports(tree: ast.Module, depth: int) -> Iterator[Import]:
    """Every import of a file that lies ``depth`` folders deep (a file in a room: 1)."""
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        at_top = id(node) not in lazy
        if isinstance(node, ast.ImportFrom) and node.level > depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                yield Import(name.split(".")[0], "", at_top)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield Import(None, (node.module or "").split(".")[0], at_top)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(None, alias.name.split(".")[0], at_top)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def violations(source: str, path: Path) -> list[str]:
    """What is wrong with the imports of a file at ``path``, relative to the root."""
    room, wrong = path.parts[0], []
    for ours, theirs, at_top in imports(ast.parse(source), len(path.parts) - 1):
        if theirs == "strokes":
            wrong.append("the package is imported absolutely")
        if ours is not None and ours not in MAY_IMPORT[room]:
            wrong.append(f"{room} must not import {ours}")
        if room in LIGHT and at_top and theirs in HEAVY:
            wrong.append(f"{room} must import {theirs} inside a function")
        if theirs in ONLY_IN and path.as_posix() not in ONLY_IN[theirs]:
            wrong.append(f"{theirs} is imported in {sorted(ONLY_IN[theirs])} only")
        if theirs in LAZY and at_top:
            wrong.append(f"{theirs} must be imported inside a function")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_downwards(path):
    assert violations(path.read_text(), path.relative_to(ROOT)) == []


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("from ..agents import scripted", "envs/canvas.py"),
        ("from .. import rewards", "envs/canvas.py"),
        ("from ...rewards.score import Sum", "envs/scenes/graph.py"),
        ("from ..rewards import Sum", "agents/rollout.py"),
        ("def f():\n    from ..sft import store", "rl/train.py"),
        ("from strokes.envs import Stage", "agents/rollout.py"),
        ("import torch", "rewards/form.py"),
        ("class A:\n    import torch", "rewards/form.py"),
        ("import ray", "agents/pool.py"),
        ("def f():\n    import ray", "agents/rollout.py"),
        ("from trl import GRPOTrainer", "sft/trainer.py"),
        ("import hydra", "agents/rollout.py"),
    ],
)
def test_a_wrong_import_is_found(source, path):
    assert violations(source, Path(path)) != []


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("from .stages import Stage", "envs/canvas.py"),
        ("from ..stages import Stage", "envs/scenes/graph.py"),
        ("from ...envs import Stage\nimport torch", "agents/bagel/model.py"),
        ("def f():\n    import torch", "rewards/form.py"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", "rewards/form.py"),
        ("def f():\n    import ray", "agents/pool.py"),
        ("from trl import GRPOTrainer", "rl/trainer.py"),
        ("from ..agents.draw import main", "rl/evaluate.py"),
    ],
)
def test_a_right_import_passes(source, path):
    assert violations(source, Path(path)) == []
