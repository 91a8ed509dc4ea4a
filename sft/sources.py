"""Sources: a data set on disk as a trainer reads it, tokenised and checked against the model once.

What was found out is kept beside the data (``.prepared/``), by the SHA-256 of the data, the tokenizer and the
autoencoder: runs and processes share it, and whoever comes first makes it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..agents.bagel.config import BagelConfig
from ..agents.bagel.model import Bagel
from ..agents.bagel.tokenizer import Tokenizer
from ..agents.bagel.transforms import ImageTransform
from ..envs.files import file_sha256, write_whole
from ..envs.transcript import Transcript
from .collator import Example, Images, ImageTable, Picture, Words, from_transcript
from .cost import Sizes, num_flops, num_tokens, tokens_of
from .examples import Examples
from .latents import ForwardImages, alone, encode_ahead
from .store import DataSet, OnBad

View = Literal["process", "final"]
"""What is learnt of a sample: the whole process; or its last image from the prompt at once, the control of table 4."""
Latents = Literal["ahead", "forward"]
"""Where images are encoded, see ``latents``."""
PREPARED = ".prepared"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How data sets are read."""

    view: View
    latents: Latents
    resize: bool
    """Whether images of another size than the model draws are scaled as BAGEL does, rather than refused."""
    on_bad: OnBad
    """What to do with a row that is wrong, see ``DataSet``."""
    cache: Path | None
    """Folder of what is kept; ``None``: beside the data."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """Samples of one split."""

    name: str
    view: View
    config: BagelConfig
    start_of_image: int
    """Id of the token that leads to an image."""
    examples: Examples
    """Of all samples of the data set."""
    images: Images
    sizes: Sizes | None
    """Of the images; ``None``: all are of the canvas."""
    names: Sequence[str]
    """Ids of all samples of the data set."""
    rows: np.ndarray
    """int64 (N,): samples of this split that can be learnt."""
    sha256: str
    """Of the data set."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        """What is learnt of sample ``index`` of this split."""
        example = self.examples[int(self.rows[index])]
        return example if self.view == "process" else self._final(example)

    def _final(self, example: Example) -> Example:
        prompt = [Words(s.ids, False, self.start_of_image) for s in example[:1] if isinstance(s, Words)]
        last = [s for s in example if isinstance(s, Picture)][-1]
        return *prompt, Picture(last.row, loss=True, context=False, stage="sketch")

    def lengths(self, copies: int) -> np.ndarray:
        """int64 (N,): tokens of every sample with so many noisy copies of each image."""
        return np.array([num_tokens(self[k], copies, self.config, self.sizes) for k in range(len(self))], np.int64)

    def flops(self, index: int, copies: int) -> int:
        """What a pass over a sample costs."""
        return num_flops(self[index], copies, self.config, self.sizes)


def open_source(
    name: str, path: str | Path, model: Bagel, tokenizer: Tokenizer, reading: Reading
) -> tuple[Source, Source]:
    """The training and the validation split of a data set.

    Raises:
        ValueError: No data, or data that does not fit the model; it says which and what to do.
    """
    folder = Path(path)
    cache = reading.cache or (folder if folder.is_dir() else folder.parent) / PREPARED
    dataset = DataSet(folder, on_bad=reading.on_bad, unpacked=reading.cache)
    data = data_sha256(dataset, cache)
    examples, arrays = _prepared(dataset, data, tokenizer, cache)
    config = model.config
    if int(examples.ids.max(initial=0)) >= config.llm_config.vocab_size:
        raise ValueError(
            f"Expected a model with an embedding for every id of its tokenizer, got {config.llm_config.vocab_size} of "
            f"them and id {examples.ids.max()} in {str(path)!r}; take the tokenizer that belongs to the checkpoint."
        )
    sizes = _fitting(arrays["sizes"], config, reading, path)
    if reading.latents == "ahead":
        images: Images = encode_ahead(dataset, len(arrays["sizes"]), data, model, cache)
    else:
        images = ForwardImages(dataset, config, _places(arrays["owners"]))
    usable = np.ones(len(examples), bool) if reading.view == "process" else _ends_in_a_target(examples)

    def split(wanted: str) -> Source:
        return Source(
            name=name,
            view=reading.view,
            config=config,
            start_of_image=tokenizer.ids.start_of_image,
            examples=examples,
            images=images,
            sizes=sizes,
            names=arrays["names"].tolist(),
            rows=np.flatnonzero(usable & (arrays["splits"] == wanted)),
            sha256=data,
        )

    return split("train"), split("validation")


def data_sha256(dataset: DataSet, cache: Path) -> str:
    """SHA-256 over the contents of a data set's files, in their order.

    Args:
        dataset: Whose files.
        cache: Where the sums of files are kept, by their names, sizes and times: 62,000 images take minutes to read.
    """
    kept, total = cache / "sha256.json", hashlib.sha256()
    with alone(cache, kept.name):
        known: dict[str, str] = json.loads(kept.read_text()) if kept.exists() else {}
        found = {}
        for path in dataset.paths:
            stat = path.stat()
            key = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
            found[key] = known.get(key) or file_sha256(path)
            total.update(bytes.fromhex(found[key]))
        if found.keys() - known.keys():
            write_whole(kept, json.dumps(known | found, indent=1) + "\n")
    return total.hexdigest()


def _prepared(dataset: DataSet, data: str, tokenizer: Tokenizer, cache: Path) -> tuple[Examples, dict[str, np.ndarray]]:
    """Examples of all samples; sizes (N, 2) and owners (N,) of the images; names and splits of the samples."""
    words = hashlib.sha256(tokenizer.base.backend_tokenizer.to_str().encode()).hexdigest()
    path = cache / f"examples-{data[:12]}-{words[:12]}-{len(dataset)}-{_FORMAT}.npz"
    with alone(cache, path.name):
        if not path.exists():
            partial = path.with_name(f"{path.name}.partial")
            _prepare(dataset, tokenizer, partial)
            partial.replace(path)
    with np.load(path) as file:
        arrays = dict(file)
    return Examples(*(arrays.pop(key) for key in ("ids", "segments", "starts"))), arrays


def _prepare(dataset: DataSet, tokenizer: Tokenizer, path: Path) -> None:
    sizes: list[tuple[int, ...]] = []
    owners: list[int] = []
    names, splits = [], []

    def read() -> Iterator[Example]:
        for k, sample in enumerate(dataset):
            table = ImageTable()
            example = from_transcript(sample.transcript, tokenizer, table)
            _check_words(sample.transcript, tokenizer)
            yield _shifted(example, len(sizes))
            sizes.extend(image.shape[:2] for image in table.images)
            owners.extend([k] * len(table.images))
            names.append(sample.transcript.id)
            splits.append(sample.split)

    examples = Examples.of(read())
    arrays: dict[str, np.ndarray] = {
        "sizes": np.array(sizes, np.int32).reshape(-1, 2),
        "owners": np.array(owners, np.int64),
        "names": np.array(names, str),
        "splits": np.array(splits, str),
    }
    examples.save(path, arrays)


def _shifted(example: Example, rows: int) -> Example:
    """The example with the rows of its images counted from ``rows`` on."""
    return tuple(
        s
        if isinstance(s, Words)
        else Picture(s.row + rows, s.loss, s.context, None if s.before is None else s.before + rows, s.switch, s.stage)
        for s in example
    )


def _check_words(transcript: Transcript, tokenizer: Tokenizer) -> None:
    """The prompt and every text that is learnt come back from the tokenizer as they are."""
    learnt = [str(e.content) for e in transcript.emissions if not (e.stage.is_image or e.outside or e.error) and e.loss]
    for text in (transcript.prompt, *learnt):
        back = tokenizer.decode(tokenizer.encode(text))
        if back != text:
            raise ValueError(
                f"Expected a tokenizer that can write the data, got {back!r} back for {text!r} of sample "
                f"{transcript.id!r}; start from a checkpoint whose tokenizer knows these words."
            )


def _places(owners: np.ndarray) -> list[tuple[int, int]]:
    """Of each image its sample and its number in it."""
    _, first, counts = np.unique(owners, return_index=True, return_counts=True)
    return [(int(owners[start]), k) for start, n in zip(first, counts, strict=True) for k in range(n)]


def _ends_in_a_target(examples: Examples) -> np.ndarray:
    """bool (N,): whether the last image of a sample is one that is learnt."""
    pictures = [[s for s in example if isinstance(s, Picture)] for example in examples]
    return np.array([bool(found) and found[-1].loss for found in pictures], bool)


def _fitting(sizes: np.ndarray, config: BagelConfig, reading: Reading, path: str | Path) -> Sizes | None:
    """Latents and patches of every image, by the rule that resizes it; ``None`` where all are of the canvas.

    An image is resized alone, however many its sample has: only BAGEL's data for understanding shares out an area.
    """
    side = config.vae_transform[0]
    if reading.latents == "ahead" and config.vit_transform[0] != side:
        raise ValueError(
            f"Expected latents=forward for a model that draws {side} pixels and looks at {config.vit_transform[0]}, "
            "got ahead; images encoded ahead are kept at one size."
        )
    vae, vit = ImageTransform(*config.vae_transform), ImageTransform(*config.vit_transform)
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for height, width in sizes.tolist():
        if (height, width) in found:
            continue
        drawn = vae.size(width, height)
        if drawn != (width, height) and not reading.resize:
            raise ValueError(
                f"Expected images of the size that the model draws, {drawn[0]} x {drawn[1]}, got {width} x {height} in "
                f"{str(path)!r}; take a model or data of the other size, or scale them with data.resize=true."
            )
        if reading.latents == "ahead" and drawn != (side, side):
            raise ValueError(
                f"Expected square images for latents=ahead, got {width} x {height} in {str(path)!r}; encode them with "
                "latents=forward."
            )
        found[height, width] = tokens_of(config, drawn, vit.size(width, height))
    if reading.latents == "ahead":
        return None
    return {row: found[height, width] for row, (height, width) in enumerate(sizes.tolist())}
