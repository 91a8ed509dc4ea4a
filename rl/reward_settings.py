"""The settings of a reward: ``configs/reward/*.yaml`` as a dataclass."""

from dataclasses import dataclass

from ..agents.command import NUMBER, check_choice, check_number

CRITICS = ("remote", "exact", "policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSettings:
    """Who judges."""

    name: str
    critic: str | None
    adapter: str | None
    """Folder of a verifier's adapter on the policy's checkpoint, with ``parm`` and ``policy``."""
    outcome: str | None
    process: float
    target: str | None
    max_missing: float

    def __post_init__(self) -> None:
        check_choice("reward.name", self.name, ("scene", "judge", "parm"))
        if self.name != "scene":
            check_choice("reward.critic", self.critic, CRITICS)
        if self.name == "scene" and self.critic is not None:
            raise ValueError(f"Expected reward.critic with reward=judge alone, got {self.critic!r}; add reward=judge.")
        if self.name != "scene" and (self.outcome is not None or self.target is not None):
            raise ValueError("Expected reward.outcome and reward.target with reward=scene alone: critics judge here.")
        if self.adapter is not None and (self.name, self.critic) != ("parm", "policy"):
            raise ValueError(f"Expected reward.adapter with reward=parm reward.critic=policy, got {self.adapter!r}.")
        check_number("reward.process", self.process, 0, NUMBER)
        if type(self.max_missing) not in NUMBER or not 0 <= self.max_missing <= 1:
            raise ValueError(f"Expected reward.max_missing to be a share in [0, 1], got {self.max_missing!r}.")
