"""What a tiny BAGEL is trained on: text-to-image, editing, captioning, then whole trajectories.

Everything is drawn from the exact mini-world's training split and kept in memory as examples over one
table of images, whose latents are encoded once. Kinds:

    draw        prompt -> image                            (BAGEL's text-to-image data)
    edit        image, instruction -> image                (its editing data; the instruction in the format of a plan)
    fix         faulty image, inspection -> image          (the same, in the format of an inspection)
    caption     image -> description                       (its understanding data)
    plan        prompt -> first plan                       (text only)
    talk        prompt -> all the words of the process     (text only)
    trajectory  the painter's whole process with errors, inspections and refinements
    own         the same over the sketches of the model in training, see ``self_sampling``
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..agents.bagel.model import Bagel
from ..agents.bagel.tokenizer import Tokenizer
from ..agents.edits import caption, random_scene, sample_edit, sample_fault
from ..agents.scripted import Habits, ScriptedPainter, demonstrate
from ..envs.files import replacing
from ..envs.markup import Inspection, Plan
from ..envs.scenes.layout import sample_layout
from ..envs.scenes.render import Scene, render
from ..envs.scenes.tasks import sample_task
from ..envs.transcript import Transcript
from .collator import Example, ImageTable, Picture, Words, from_transcript

KINDS = ("draw", "edit", "fix", "caption", "plan", "talk", "trajectory")
"""Kinds of examples, as above."""
HABITS = Habits(error_rate=0.3, plan_error_rate=0.05, per_step=(2, 2))
"""The painter's habits in trajectories. Two objects a step and no detours: each further round costs a model of
this size a copy of everything drawn so far (earlier runs: colours drift after two rounds)."""


@dataclass(slots=True)
class Builder:
    """Draws examples of one kind after another into a shared table."""

    tokenizer: Tokenizer
    table: ImageTable
    size: int

    def words(self, text: str, loss: bool, switch: int | None = None) -> Words:
        """A text segment."""
        return Words(tuple(self.tokenizer.encode(text)), loss, switch)

    def drawn(self, image: np.ndarray, before: int | None = None) -> Picture:
        """An image to be drawn; ``before`` is the row of the one it replaces."""
        return Picture(self.table.add(image), loss=True, context=False, before=before)

    def draw(self, rng: np.random.Generator) -> Example:
        """A prompt and a scene that fulfils it."""
        task = sample_task(rng)
        layout = sample_layout(task.graph, rng, self.size)
        return self.words(task.prompt, False), self.drawn(render(layout.scene))

    def edit(self, rng: np.random.Generator) -> Example:
        """A scene, a plan for one step, and the scene after it."""
        example = sample_edit(rng, self.size)
        return self._step(example.source, Plan(example.ins, example.des), render(example.target))

    def fix(self, rng: np.random.Generator) -> Example:
        """A plan, the sketch drawn for it, what an inspection says and, if it asks for one, the corrected image."""
        example = sample_fault(rng, self.size)
        sketched = self._step(example.before, Plan(example.ins, example.des), example.image)
        faulty = replace(sketched[-1], loss=False, context=True)
        inspection = self.words(str(Inspection(example.comment, example.refine)), True)
        context = (*sketched[:-1], faulty, inspection)
        if example.refine is None:
            return context
        return *context, self.drawn(render(example.target), faulty.row)

    def _step(self, source: Scene, plan: Plan, image: np.ndarray) -> tuple[*tuple[Words | Picture, ...], Picture]:
        words = self.words(str(plan), False)
        if not source.objects:
            return words, self.drawn(image)
        shown = Picture(self.table.add(render(source)), loss=False, context=True)
        return shown, words, self.drawn(image, shown.row)

    def caption(self, rng: np.random.Generator) -> Example:
        """A scene and its description."""
        scene = random_scene(rng, self.size)
        return Picture(self.table.add(render(scene)), loss=False, context=True), self.words(caption(scene), True)

    def plan(self, rng: np.random.Generator) -> Example:
        """A prompt and the painter's first plan, mostly for relations and compositions, which are learnt last."""
        tag = str(rng.choice(["position", "composition", ""], p=[0.4, 0.3, 0.3])) or None
        task, painter = sample_task(rng, tag=tag), ScriptedPainter(Habits(per_step=HABITS.per_step))
        transcript = Transcript(prompt=task.prompt, size=self.size, meta=task.meta)
        session = painter.start(transcript, self.size, [int(rng.integers(2**62))])
        transcript.record(painter.act([session], [transcript.mask()])[0].emission)
        return from_transcript(transcript, self.tokenizer, self.table)

    def talk(self, rng: np.random.Generator) -> Example:
        """The words of a whole process without its images, mostly of compositions: what to add, what is missing."""
        task = sample_task(rng, tag="composition" if rng.random() < 0.8 else None)
        transcript = demonstrate(task, rng, self.size, Habits(per_step=HABITS.per_step))
        example = from_transcript(transcript, self.tokenizer, ImageTable())
        return tuple(replace(s, switch=None) for s in example if isinstance(s, Words))

    def trajectory(self, rng: np.random.Generator) -> Example:
        """The painter's whole process."""
        transcript = demonstrate(sample_task(rng), rng, self.size, HABITS)
        return from_transcript(transcript, self.tokenizer, self.table)

    def build(self, kind: str, num: int, seed: int) -> list[Example]:
        """``num`` examples of one of ``KINDS``; the k-th depends on (seed, kind, k) alone, but for its rows."""
        if kind not in KINDS:
            raise ValueError(f"Expected the kinds of a mixture among {', '.join(KINDS)}, got {kind!r}.")
        make: Callable[[np.random.Generator], Example] = getattr(self, kind)
        code = [ord(letter) for letter in kind]
        return [make(np.random.default_rng([seed, *code, k])) for k in range(num)]


@torch.no_grad()
def encode_latents(model: Bagel, table: ImageTable, batch: int = 64) -> None:
    """Fill ``table.latents`` for images that have none yet: posterior means, float32 (N, tokens, channels)."""
    parts = [table.latents] if len(table.latents) else []
    for start in range(len(table.latents), len(table.images), batch):
        rows = range(start, min(start + batch, len(table.images)))
        pixels = torch.stack([table.pixels(row) for row in rows]).to(model.device)
        parts.append(model.encode_images(pixels).float().cpu())
    table.latents = torch.cat(parts) if parts else table.latents


def write_examples(path: Path, table: ImageTable, examples: Mapping[str, Sequence[Example]]) -> None:
    """Keep a mixture in one file, so that a run that goes on need not build it again."""
    plain = {kind: [[(type(s).__name__, *astuple(s)) for s in e] for e in part] for kind, part in examples.items()}
    images = torch.from_numpy(np.stack(table.images)) if table.images else torch.zeros(0, dtype=torch.uint8)
    with replacing(path) as partial:
        torch.save({"images": images, "latents": table.latents, "examples": plain}, partial)


def read_examples(path: Path) -> tuple[ImageTable, dict[str, list[Example]]]:
    """What ``write_examples`` wrote."""
    saved = torch.load(path, weights_only=True)
    table = ImageTable()
    table.images, table.latents = list(saved["images"].numpy()), saved["latents"]
    make: dict[str, type[Words] | type[Picture]] = {"Words": Words, "Picture": Picture}
    examples = {
        kind: [tuple(make[name](*values) for name, *values in example) for example in part]
        for kind, part in saved["examples"].items()
    }
    return table, examples
