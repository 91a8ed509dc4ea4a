"""Detection: one thing seen on a canvas."""

from dataclasses import dataclass

UNKNOWN = "unknown"
"""The shape of something that is on the canvas and is none of the world's shapes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One thing seen on a canvas. Coordinates in pixels, pixel ``k`` covering [k, k + 1]."""

    shape: str
    """One of the world's shapes, or "unknown"."""
    color: str
    """Nearest colour of the palette."""
    score: float
    """Confidence in [0, 1] from the cosine and its margin; 0 where the shape is unknown."""
    box: tuple[int, int, int, int]
    """(x0, y0, x1, y1), exclusive at the far side, of the pixels covered by half or more."""
    center: tuple[float, float]
    """Drawing centre as the renderer takes it (the centroid where the shape is unknown)."""
    radius: float
    """Drawing radius as the renderer takes it (half the longer side where the shape is unknown)."""
    area: float
    """Pixels covered by half or more."""
    ncc: float
    """Cosine with the best prototype, whatever its shape."""
    fault: str = ""
    """Why it is unknown: "shape", "border", "size", "cut off" or "re-render"; "" where it is known."""
