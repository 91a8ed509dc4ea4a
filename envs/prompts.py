"""Where prompts come from: a list, a JSONL file, a dataset of the Hugging Face hub, the mini-world.

A source gives tasks: a prompt and what rewards need to know of it. Sources hold no state of their
own; the caller's generator alone decides what is drawn.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True, slots=True)
class Prompt:
    """One task."""

    prompt: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What rewards need to know (for scenes and GenEval: the benchmark's metadata)."""


@runtime_checkable
class Prompts(Protocol):
    """Something that gives tasks."""

    def sample(self, rng: np.random.Generator) -> Prompt:
        """One task, drawn with ``rng`` alone."""
        ...


class ListPrompts(Sequence[Prompt]):
    """Prompts at hand, in order: strings, ``Prompt``s, or rows with a "prompt" whose other keys become ``meta``."""

    def __init__(self, items: Sequence[str | Prompt | Mapping[str, Any]]) -> None:
        if isinstance(items, str) or not items:
            raise ValueError(f"Expected a non-empty list of prompts, got {items!r}.")
        self.items = tuple(_prompt(item, f"prompts[{k}]") for k, item in enumerate(items))

    def sample(self, rng: np.random.Generator) -> Prompt:
        """One of them, all equally likely."""
        return self.items[int(rng.integers(len(self.items)))]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]


class JsonlPrompts(ListPrompts):
    """A JSONL file with one row per line; GenEval's ``evaluation_metadata.jsonl`` as it stands."""

    def __init__(self, path: str | Path, column: str = "prompt") -> None:
        rows = []
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n"), 1):
            if line.strip():
                try:
                    rows.append(_row(json.loads(line), column, f"{path}:{number}"))
                except json.JSONDecodeError as error:
                    raise ValueError(f"Expected JSON at {path}:{number}, got {error}.") from error
        if not rows:
            raise ValueError(f"Expected prompts in {path}, got an empty file.")
        super().__init__(rows)


class HubPrompts:
    """A dataset of the Hugging Face hub (or on disk), loaded when the first prompt is drawn.

    Args:
        name: Name of the dataset, as ``datasets.load_dataset`` takes it.
        split: Split of the dataset.
        column: Column with the prompts; all other columns become ``meta``.
        options: Further arguments of ``datasets.load_dataset``.
    """

    def __init__(self, name: str, split: str = "train", column: str = "prompt", **options: Any) -> None:
        self.name, self.split, self.column, self.options = name, split, column, options
        self._rows: Any = None

    def sample(self, rng: np.random.Generator) -> Prompt:
        """One row, all equally likely."""
        return self[int(rng.integers(len(self)))]

    def __len__(self) -> int:
        return len(self._loaded())

    def __getitem__(self, index: int) -> Prompt:
        return _row(self._loaded()[index], self.column, f"{self.name}[{index}]")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}  # each process opens the dataset by itself

    def _loaded(self) -> Any:
        if self._rows is None:
            try:
                import datasets
            except ImportError as error:
                raise ImportError("Expected `datasets` to be installed; pip install 'strokes[train]'.") from error
            self._rows = datasets.load_dataset(self.name, split=self.split, **self.options)
        return self._rows


class ScenePrompts:
    """Tasks of the mini-world, without end.

    Args:
        split: "train" or "heldout"; the two share no scene graph.
        tag: One task such as "position"; ``None``: all of them.
    """

    def __init__(self, split: str = "train", tag: str | None = None) -> None:
        self.split, self.tag = split, tag

    def sample(self, rng: np.random.Generator) -> Prompt:
        """A freshly drawn task."""
        from .scenes.tasks import sample_task

        task = sample_task(rng, self.split, self.tag)
        return Prompt(task.prompt, task.meta)


def make_prompts(source: "Prompts | Sequence[Any] | str") -> Prompts:
    """The source that ``source`` names.

    Args:
        source: A source, a list of prompts or rows, or a string (which an ``EnvSpec`` can hold as JSON):
            ``"scenes"``, ``"scenes:heldout"``, ``"scenes:train:position"``, ``"hub:owner/name"``,
            ``"hub:owner/name:test"``, or the path of a ``.jsonl`` file.
    """
    if not isinstance(source, str):
        return source if isinstance(source, Prompts) else ListPrompts(source)
    kind, *rest = source.split(":")
    if kind == "scenes" and len(rest) <= 2:
        return ScenePrompts(*rest)
    if kind == "hub" and 1 <= len(rest) <= 3:
        return HubPrompts(*rest)
    if source.endswith(".jsonl"):
        return JsonlPrompts(source)
    raise ValueError(
        f"Expected 'scenes[:split[:tag]]', 'hub:name[:split[:column]]' or a path ending in '.jsonl', got {source!r}; "
        "a single prompt goes into a list."
    )


def _prompt(item: Any, where: str) -> Prompt:
    if isinstance(item, Prompt):
        return item
    return Prompt(item) if isinstance(item, str) else _row(item, "prompt", where)


def _row(row: Any, column: str, where: str) -> Prompt:
    if not isinstance(row, Mapping) or not isinstance(row.get(column), str):
        raise ValueError(f"Expected {where} to have a text under {column!r}, got {str(row)[:80]!r}.")
    return Prompt(row[column], {key: value for key, value in row.items() if key != column})
