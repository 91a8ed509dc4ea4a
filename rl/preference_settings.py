"""The settings of ``strokes-rl`` under ``preference``: learning from pairs in place of groups."""

from dataclasses import dataclass

from ..agents.command import NUMBER, check_number

START = "start"
"""In place of an adapter's folder: the policy's own understanding, as the checkpoint has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """The verifier's own term, see ``rl.guidance``."""

    coef: float
    below: float
    """Greatest time of a state whose estimate is shown."""
    adapter: str
    """Folder of a verifier's adapter on the policy's checkpoint; ``START``: its understanding as it is."""

    def __post_init__(self) -> None:
        if not isinstance(self.adapter, str) or self.adapter in ("", "???"):
            raise ValueError(
                "Expected preference.guidance.adapter to be the folder of a verifier's adapter (python -m "
                f"strokes.rl.verifier makes one), or {START}, the policy's own understanding, got {self.adapter!r}."
            )
        check_number("preference.guidance.coef", self.coef, 0, NUMBER)
        check_number("preference.guidance.below", self.below, 0, NUMBER)
        if not (self.coef and self.below):
            raise ValueError("Expected preference.guidance with coef and below above 0, or null for none, got a 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """DPO, see ``rl.preference`` and ``rl.rounds``."""

    rounds: int
    epochs: int
    """Passes over the pairs of a round."""
    beta_text: float
    beta_flow: float
    states: int
    """Of each image."""
    guidance: Guidance | None

    def __post_init__(self) -> None:
        for name in ("rounds", "epochs", "states"):
            check_number(f"preference.{name}", getattr(self, name), 1)
        for name in ("beta_text", "beta_flow"):
            check_number(f"preference.{name}", getattr(self, name), 0, NUMBER)
        if not (self.beta_text or self.beta_flow):
            raise ValueError("Expected preference.beta_text or preference.beta_flow above 0, got both 0.")
