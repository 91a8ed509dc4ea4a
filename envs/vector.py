"""CanvasVectorEnv: many canvases, one batched score per step.

``gymnasium.make_vec(id, num_envs=n)`` builds it by default. Its sub-environments leave judging to it, so a
reward on a GPU or behind an API sees all canvases of a step in one call.
"""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from .canvas import CanvasEnv, make_reward


class CanvasVectorEnv(SyncVectorEnv):
    """Canvases that advance together and are judged together.

    Args:
        num_envs: Number of canvases.
        autoreset_mode: When a finished canvas begins anew, as in Gymnasium's vector environments.
        kwargs: Arguments of ``CanvasEnv``, the same for all canvases.
    """

    envs: list[CanvasEnv]  # type: ignore[assignment]

    def __init__(
        self, num_envs: int = 1, autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP, **kwargs: Any
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"Expected `num_envs` of at least 1, got {num_envs}.")
        reward, scoring = make_reward(kwargs.pop("reward", None)), kwargs.pop("scoring", "step")
        self.reward = reward if scoring == "step" else None
        inner: Any = "deferred" if self.reward is not None else scoring
        super().__init__(
            [lambda: CanvasEnv(reward=reward, scoring=inner, **kwargs)] * num_envs, autoreset_mode=autoreset_mode
        )

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One emission on every canvas; those that are begun anew in this step are not judged."""
        # A reset replaces an env's transcript, so these are still at hand where a canvas begins anew.
        begins = self._autoreset_envs & (self.autoreset_mode == AutoresetMode.NEXT_STEP)
        judged = [] if self.reward is None else np.flatnonzero(~begins).tolist()
        transcripts = [self.envs[i].transcript for i in judged]
        observations, rewards, terminations, truncations, infos = super().step(actions)
        if self.reward is None or not judged:
            return observations, rewards, terminations, truncations, infos
        for i, transcript, score in zip(judged, transcripts, self.reward(transcripts), strict=True):
            reward, terms = self.envs[i].pay(transcript, score)
            rewards[i] = reward
            begun_anew = transcript is not self.envs[i].transcript
            for name, value in terms.items():
                (infos["final_info"] if begun_anew else infos)["reward_terms"][name][i] = value
        return observations, rewards, terminations, truncations, infos
