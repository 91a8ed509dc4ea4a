"""FLUX beside BAGEL: FLUX.1-dev, which draws a prompt at once, and FLUX.1-Kontext, which edits picture after picture.

Both are pipelines of ``diffusers``, loaded from folders of the Hugging Face layout, behind two small protocols: whoever
paints from words is an ``ImagePainter``, whoever also changes a picture by an instruction is an ``ImageEditor``. Two
policies are made of them: ``FluxOneShot``, the baseline of the paper's tables (arXiv 2604.04746, tables 2 and 3), and
``FluxEditor``, which draws what the last plan says, and is the painter that a ``remote.Planner`` or
``remote.Inspector`` directs.

Two traps of ``FluxKontextPipeline`` are kept away: ``max_area`` overrides height and width, and ``_auto_resize`` blows
a canvas up to one of the resolutions it was trained at, whatever was asked for. Pictures are drawn one by one: at 1024
pixels one fills a GPU, and so none depends on which others are drawn beside it.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from PIL import Image

from ..envs.protocols import Cost, Reply, Session
from ..envs.stages import Emission, Stage
from ..envs.transcript import Transcript
from .editor import told
from .one_shot import fixed_words, nearest_stage


class ImagePainter(Protocol):
    """Something that paints pictures from words."""

    steps: int
    """Sampling steps of one picture."""

    def check(self, size: int) -> None:
        """``ValueError`` unless it can paint squares of this side."""
        ...

    def paint(self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], size: int) -> list[np.ndarray]:
        """One picture for each prompt, uint8 (size, size, 3).

        Args:
            prompts: What they show.
            seeds: Integers for ``numpy.random.SeedSequence``, one sequence for each picture.
            size: Side in pixels.
        """
        ...


class ImageEditor(ImagePainter, Protocol):
    """Something that also changes pictures as it is told."""

    def edit(
        self, images: Sequence[np.ndarray], instructions: Sequence[str], seeds: Sequence[Sequence[int]]
    ) -> list[np.ndarray]:
        """Each picture, changed; of the same size."""
        ...


class Flux:
    """FLUX.1-dev as an ``ImagePainter``. Its guidance is distilled: one evaluation of the network per step."""

    pipeline_class: ClassVar[str] = "FluxPipeline"
    """As ``model_index.json`` names it."""

    def __init__(self, pipeline: Any, *, steps: int = 50, guidance: float = 3.5) -> None:
        """Args:

        pipeline: A ``diffusers`` pipeline of ``pipeline_class``; its device and dtype are used.
        steps: Sampling steps of one picture; this and the guidance as on FLUX.1-dev's card.
        guidance: The distilled scale of the text guidance.
        """
        self.pipeline, self.steps, self.guidance = pipeline, steps, guidance
        pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def load(
        cls, path: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", **options: Any
    ) -> Self:
        """From a folder as ``save_pretrained`` leaves it; ``options`` are those of ``__init__``.

        Raises:
            ValueError: It is no such folder, or one of another pipeline.
        """
        import diffusers

        cls._check_index(Path(path))
        try:
            with warnings.catch_warnings():
                # "dtype" in new versions alone; the old name works in all before 1.0, and says so
                warnings.filterwarnings("ignore", ".*torch_dtype.*", FutureWarning)
                pipeline = getattr(diffusers, cls.pipeline_class).from_pretrained(
                    str(path), torch_dtype=dtype, local_files_only=True
                )
        except (OSError, ValueError) as error:
            raise ValueError(f"Expected a whole {cls.pipeline_class} in {str(path)!r}: {error}.") from error
        return cls(pipeline.to(device), **options)

    @classmethod
    def _check_index(cls, path: Path) -> None:
        """``ValueError`` unless the folder says that it is this pipeline: diffusers would load the other one as it."""
        index = path / "model_index.json"
        try:
            found = json.loads(index.read_text())["_class_name"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"Expected policy.path to be a folder with the model_index.json of a {cls.pipeline_class}, got "
                f"{str(path)!r} ({error}); `hf download` makes one."
            ) from error
        if found != cls.pipeline_class:
            raise ValueError(f"Expected a {cls.pipeline_class} in {str(path)!r}, got a {found}.")

    def check(self, size: int) -> None:
        """``ValueError`` unless ``size`` is a multiple of what the autoencoder and the patches take together."""
        multiple = 2 * int(self.pipeline.vae_scale_factor)
        if size < multiple or size % multiple:
            raise ValueError(f"Expected a canvas whose side is a multiple of {multiple}, got {size}.")

    def paint(self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], size: int) -> list[np.ndarray]:
        """One picture for each prompt."""
        self.check(size)
        return [self._draw(seed, size, prompt=prompt) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _draw(self, seed: Sequence[int], size: int, **inputs: Any) -> np.ndarray:
        state = int(np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0])
        # Noise is drawn on the CPU, where it is the same on every machine.
        drawn = self.pipeline(
            height=size,
            width=size,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=torch.Generator().manual_seed(state),
            **inputs,
        )
        return np.asarray(drawn.images[0].convert("RGB"))


class Kontext(Flux):
    """FLUX.1-Kontext as an ``ImageEditor``; without a picture to start from it paints."""

    pipeline_class: ClassVar[str] = "FluxKontextPipeline"

    def __init__(self, pipeline: Any, *, steps: int = 28, guidance: float = 2.5) -> None:
        """Args:

        pipeline: A ``FluxKontextPipeline``; its device and dtype are used.
        steps: Sampling steps of one picture; this and the guidance as in its documentation.
        guidance: The distilled scale of the text guidance.
        """
        super().__init__(pipeline, steps=steps, guidance=guidance)

    def edit(
        self, images: Sequence[np.ndarray], instructions: Sequence[str], seeds: Sequence[Sequence[int]]
    ) -> list[np.ndarray]:
        """Each picture, changed as it is told."""
        for image in images:
            self.check(len(image))
        return [
            self._draw(seed, len(image), prompt=words, image=Image.fromarray(image))
            for image, words, seed in zip(images, instructions, seeds, strict=True)
        ]

    def _draw(self, seed: Sequence[int], size: int, **inputs: Any) -> np.ndarray:
        return super()._draw(seed, size, max_area=size * size, _auto_resize=False, **inputs)


@dataclass(slots=True, eq=False)
class FluxSession:
    """One canvas in the policy's hands."""

    transcript: Transcript
    size: int
    seed: tuple[int, ...]

    @property
    def next_seed(self) -> tuple[int, ...]:
        """Of the next emission: the seed and the place in the transcript decide it."""
        return (*self.seed, len(self.transcript.emissions))


class FluxOneShot:
    """A policy: every image is the prompt, drawn at once; the other stages get fixed words."""

    def __init__(self, painter: ImagePainter) -> None:
        self.painter = painter

    def start(self, transcript: Transcript, size: int, seed: Sequence[int]) -> FluxSession:
        """A session on an empty or re-opened transcript."""
        self.painter.check(size)
        return FluxSession(transcript, size, tuple(seed))

    def close(self, sessions: Sequence[Session]) -> None:
        """Nothing is held between images."""

    def act(self, sessions: Sequence[Session], masks: Sequence[np.ndarray]) -> list[Reply]:
        """One reply per session."""
        return [self._reply(_own(session), nearest_stage(mask)) for session, mask in zip(sessions, masks, strict=True)]

    def _reply(self, session: FluxSession, stage: Stage) -> Reply:
        if not stage.is_image:
            return Reply(emission=Emission(stage, fixed_words(stage, session.transcript.prompt)))
        begun = perf_counter()
        image, steps = self._drawn(session), self.painter.steps
        cost = Cost(steps=steps, nfe=steps, decodes=1, seconds=perf_counter() - begun)
        return Reply(emission=Emission(stage, image), cost=cost)

    def _drawn(self, session: FluxSession) -> np.ndarray:
        return self.painter.paint([session.transcript.prompt], [session.next_seed], session.size)[0]


class FluxEditor(FluxOneShot):
    """A policy: the first image is painted after the plan's description, later ones are edits by its instruction.

    Left to itself it plans the prompt as a whole; a ``remote.Planner`` beside it plans in steps.
    """

    painter: ImageEditor

    def __init__(self, painter: ImageEditor) -> None:
        super().__init__(painter)

    def _drawn(self, session: FluxSession) -> np.ndarray:
        canvas, words = session.transcript.canvas, told(session.transcript)
        if canvas is None:
            return self.painter.paint([words], [session.next_seed], session.size)[0]
        return self.painter.edit([canvas], [words], [session.next_seed])[0]


def _own(session: Session) -> FluxSession:
    if not isinstance(session, FluxSession):
        raise ValueError(f"Expected a session of this policy's start(), got {session!r}.")
    return session
