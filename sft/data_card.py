"""The card beside a data set: what it is, how it was made, what is in it, and how it is read."""

import json
from collections.abc import Mapping
from typing import Any

from .sample import Subset
from .scene_prompts import SPLITS

ABOUT = {
    Subset.MULTI_TURN: "whole drawings: in every round a plan, a sketch and an inspection that finds no fault; "
    "everything is learnt",
    Subset.CONFLICT: "is the plan true to the prompt? Right rounds, then a plan and the sketch that follows it, as "
    "context; learnt are the inspection and what follows: the next plan, the end, or the corrected plan and its sketch",
    Subset.ALIGNMENT: "is the sketch true to the plan? Right rounds, a right plan and a sketch, as context; learnt are "
    "the inspection, the refined image where the sketch is wrong, and what follows: the next plan or the end",
}
LICENCES = {
    "exact": "Made by this package's own programs and models: Apache-2.0.",
    "real": "Pictures of multi_turn are FLUX.1-Kontext's: its licence applies, and the terms of whoever serves the "
    "language model.",
    "genref": "Pictures and reflections of alignment are GenRef's (diffusion-cot/GenRef-wds): its licence applies.",
}
TRAP = """\
A part of the steps of multi_turn, and of the rounds before what conflict and alignment judge, are *planned detours*: a
placeholder that a later step modifies, moves, replaces or removes. Such a state contradicts the prompt on purpose. The
plan announces it ("as a placeholder"), and `provenance` lists the rounds (`planned`). Whoever judges states against the
prompt must see the plan or leave those rounds out, or else will take every detour for a mistake."""

REPEATABLE = """\
The same settings give the same bytes, for any number of workers, where nothing but this package's own programs take
part: sources exact, symbolic and corrupted, and GenRef in its reflections' words. Self-sampled data repeat on one kind
of device with the same versions of the libraries. What a language model, a judge or FLUX made does not."""


def card(runs: Mapping[Subset, Mapping[str, Any]], table: str, audit: str) -> str:
    """The card as Markdown, with the header that ``datasets.load_dataset`` reads.

    Args:
        runs: What decided each subset, as its run.json says.
        table: The paper's Table 1 of this data, as Markdown.
        audit: What the exact verifier found, as Markdown.
    """
    sources = {
        "real" if runs.get(Subset.MULTI_TURN, {}).get("multi_turn", {}).get("backend") == "real" else "exact",
        "genref" if runs.get(Subset.ALIGNMENT, {}).get("alignment", {}).get("source") == "genref" else "exact",
    }
    parts = [
        _header(runs, "apache-2.0" if sources == {"exact"} else "other"),
        "# Trajectories of drawing in strokes\n\nThe training data of [Think in Strokes, Not Pixels]"
        "(https://arxiv.org/abs/2604.04746), section 3.2, made anew by `strokes-data`: a prompt is drawn in rounds of "
        "plan, sketch and inspection, with refinements where something went wrong.",
        "\n".join(f"- `{subset}`: {ABOUT[subset]}." for subset in runs),
        table,
        f"## Audit\n\n{audit}",
        f"## Planned detours are no mistakes\n\n{TRAP}",
        f"## Reading it\n\n{_reading(next(iter(runs)))}",
        f"## How it was made\n\n{REPEATABLE}\n\n" + "\n\n".join(_made(subset, run) for subset, run in runs.items()),
        "## Licence\n\n" + " ".join(LICENCES[source] for source in sorted(sources)),
    ]
    return "\n\n".join(parts) + "\n"


def _header(runs: Mapping[Subset, Mapping[str, Any]], licence: str) -> str:
    lines = ["---", f"license: {licence}", "task_categories: [text-to-image]", "configs:"]
    for subset, run in runs.items():
        lines += [f"  - config_name: {subset}", "    data_files:"]
        splits = SPLITS if run["validation"] else SPLITS[:1]
        lines += [f"      - {{split: {split}, path: {subset}/{split}-*.parquet}}" for split in splits]
    return "\n".join([*lines, "---"])


def _reading(subset: Subset) -> str:
    return f"""\
```python
from strokes.sft.store import DataSet

dataset = DataSet("<this folder>").select(subset="{subset}", split="train")
dataset[0].transcript  # a strokes.envs.Transcript; `Entry.loss` says what bears loss
```

or, with pictures as PIL images and `segments` that refer to them by index, in training order:

```python
from datasets import load_dataset

load_dataset("<this folder>", "{subset}", split="train")
```"""


def _made(subset: Subset, run: Mapping[str, Any]) -> str:
    return f"`{subset}`:\n\n```json\n{json.dumps(run, indent=1)}\n```"
