"""A transcript at a glance: a contact sheet of its images, and text for the terminal."""

import functools
import re
import textwrap
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .stages import Stage
from .transcript import Entry, Transcript

# CSI, OSC, the other string sequences, and any other escape; 7-bit and 8-bit introducers alike.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c]*(?:\x1b\\|\x9c)|\x1b[ -/]*[0-~]"
)
# Control characters, marks that reverse the reading direction, and halves of characters.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_INK, _FAINT, _PAPER = (32, 33, 36), (150, 150, 150), (250, 249, 246)
_CAPTION, _HEADER, _GAP = 22, 48, 12
_COLUMNS = 4


def strip_escapes(text: str) -> str:
    """Text that a terminal shows as it is: escape sequences and control characters removed."""
    return _CONTROL.sub("", _ESCAPE.sub("", text))


def contact_sheet(transcript: Transcript, num_cells: int | None = None) -> np.ndarray:
    """The prompt and all accepted images in order, with their stage.

    Args:
        transcript: What to show.
        num_cells: Places for images; the sheet's size depends on it and on the canvas size alone, so that
            frames of one environment are of one size. Where there are more images, the last ones are shown.
            ``None``: as many as there are.

    Returns:
        uint8 (H, W, 3). Small images are enlarged by a whole factor to at least 128 px, large ones reduced to 256.
    """
    shown = [e for e in transcript.emissions if e.stage.is_image and not e.error]
    num_cells = max(1, len(shown) if num_cells is None else num_cells)
    columns, side = min(_COLUMNS, num_cells), _cell_side(transcript.size)
    rows = -(-num_cells // columns)
    width = max(columns, 2) * (side + _GAP) + _GAP
    sheet = Image.new("RGB", (width, _HEADER + rows * (side + _CAPTION + _GAP) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _prompt_lines(draw, transcript.prompt, width)
    for k in range(num_cells):
        x = _GAP + k % columns * (side + _GAP)
        y = _HEADER + k // columns * (side + _CAPTION + _GAP)
        draw.rectangle((x - 1, y - 1, x + side, y + side), outline=(222, 220, 214))
        if k < len(shown[-num_cells:]):
            entry = shown[-num_cells:][k]
            sheet.paste(scaled(entry.content, side), (x, y))
            draw.text((x, y + side + 4), _caption(entry, k), fill=_INK, font=_font(13))
    return np.array(sheet)


def scaled(image: Any, side: int) -> Image.Image:
    """A uint8 (H, W, 3) image at ``side`` pixels: sharp pixels when enlarged, averaged when reduced."""
    picture = Image.fromarray(image)
    enlarge = side >= picture.width
    return picture.resize((side, side), Image.Resampling.NEAREST if enlarge else Image.Resampling.BOX)


def ansi_image(image: np.ndarray, columns: int = 32) -> str:
    """An image for a true-colour terminal, two pixels per character.

    Args:
        image: uint8 (H, W, 3).
        columns: Characters per line; an even number, the picture has half as many lines.
    """
    pixels = np.asarray(Image.fromarray(image).resize((columns, columns // 2 * 2), Image.Resampling.BOX)).tolist()
    lines = []
    for top, bottom in zip(pixels[::2], pixels[1::2], strict=True):
        cells = (_half_block(a, b) for a, b in zip(top, bottom, strict=True))
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)


def ansi(transcript: Transcript, columns: int = 32, width: int = 96) -> str:
    """The whole transcript for a true-colour terminal.

    Args:
        transcript: What to show; escapes and control characters in its words are stripped.
        columns: Width of the pictures in characters.
        width: Where words are wrapped.
    """
    parts = [_wrapped("\x1b[1mPROMPT\x1b[0m", transcript.prompt, width)]
    for entry in transcript.emissions:
        name = f"\x1b[1m{entry.stage.name}\x1b[0m"
        if entry.source != "policy":
            name += f" \x1b[2m({strip_escapes(entry.source)})\x1b[0m"
        if isinstance(entry.content, str):
            parts.append(_wrapped(name, entry.content, width))
        else:
            parts.append(f"{name}\n{ansi_image(entry.content, columns)}")
        if entry.error:
            parts.append(_wrapped("  \x1b[31millegal\x1b[0m", entry.error, width))
    if transcript.ended:
        score = "" if transcript.score is None else f", score {transcript.score:.2f}"
        parts.append(f"\x1b[2mended by {transcript.ended}{score}\x1b[0m")
    return "\n".join(parts)


def _half_block(top: list[int], bottom: list[int]) -> str:
    foreground, background = ";".join(map(str, top)), ";".join(map(str, bottom))
    return f"\x1b[38;2;{foreground};48;2;{background}m\u2580"


def _wrapped(name: str, words: str, width: int) -> str:
    lines = textwrap.wrap(strip_escapes(words), width, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([name, *lines])


def _cell_side(size: int) -> int:
    return min(size, 256) if size >= 128 else size * -(-128 // size)


def _caption(entry: Entry, k: int) -> str:
    name = "given" if entry.outside else entry.stage.name.lower()
    redrawn = "" if entry.stage is not Stage.REFINE else " (redrawn)"
    return f"{k + 1}  {name}{redrawn}"


def _prompt_lines(draw: ImageDraw.ImageDraw, prompt: str, width: int) -> None:
    lines = textwrap.wrap(strip_escapes(prompt), max(16, width // 8), max_lines=2, placeholder=" ...")
    for k, line in enumerate(lines):
        draw.text((_GAP, 8 + 18 * k), line, fill=_INK if k == 0 else _FAINT, font=_font(14))


@functools.lru_cache(maxsize=4)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
