"""The card beside a checkpoint: what it is, what it learnt from, how to use it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..envs.files import write_whole
from .job import checkpoint_of
from .train_settings import Settings

_CARD = """\
---
library_name: strokes
pipeline_tag: text-to-image
tags: [bagel, process-driven-generation, sft]
---
# {title}

{what}, trained from `{init}` with `strokes-sft` on {subsets} (method: arXiv 2604.04746). It draws by the exponential
average of its weights.

    strokes-draw {policy} "a red circle left of a blue square"

| | |
|---|---|
{table}

## Data

{data}

## Settings

```json
{settings}
```
"""


def write_card(path: Path, settings: Settings, metrics: Mapping[str, Any]) -> None:
    """Write the card of a finished run.

    Args:
        path: ``README.md`` in the run's folder.
        settings: Of the run.
        metrics: Of the run, see ``metrics.json``.
    """
    kind = "A BAGEL" if settings.lora is None else "An adapter of BAGEL"
    does = "plans, sketches, inspects and refines" if settings.view == "process" else "draws from a prompt at once"
    shown = {name: value for name, value in metrics.items() if name != "data"}
    text = _CARD.format(
        title=path.parent.name,
        what=f"{kind} that {does}",
        init=settings.model.init,
        subsets=", ".join(settings.data.subsets),
        policy=" ".join(policy_words(settings, path.parent)),
        table="\n".join(f"| {name} | {_plain(value)} |" for name, value in shown.items()),
        data="\n".join(f"* {name}: SHA-256 `{digest}`" for name, digest in metrics["data"].items()),
        settings=json.dumps(asdict(settings), indent=1, default=str),
    )
    write_whole(path, text)


def policy_words(settings: Settings, folder: Path) -> list[str]:
    """What any command is told to draw with a run's weights.

    Args:
        settings: Of the run.
        folder: Of the run.
    """
    name = settings.policy["name"]
    found = [f"policy={name}"]
    if settings.view == "final":  # policy=one-shot has the sizes and the sampling of the small ones
        found = ["policy=bagel", "policy.name=one-shot"] if name == "bagel" else ["policy=one-shot"]
    if settings.lora is None:
        return [*found, f"policy.path={folder / 'checkpoint'}"]
    return [*found, f"policy.path={checkpoint_of(settings.model.init)}", f"policy.adapter={folder / 'adapter'}"]


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
