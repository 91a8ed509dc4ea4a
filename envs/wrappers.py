"""Wrappers: keep every episode's transcript, and let words from outside into an episode."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from .archive import append_transcript
from .canvas import CanvasEnv
from .stages import Emission, Stage
from .transcript import Ending, Transcript

Observation = dict[str, Any]


class RecordTranscripts(gym.Wrapper[Observation, Emission, Observation, Emission], RecordConstructorArgs):
    """Appends each finished episode to a JSONL file, its images beside it.

    An episode that something outside cut short (``TimeLimit``) is written as truncated; one that is abandoned
    by an early ``reset`` is not written.

    Args:
        env: A ``CanvasEnv``, wrapped or not.
        path: The JSONL file; it grows.
    """

    def __init__(self, env: gym.Env[Observation, Emission], path: str | Path) -> None:
        RecordConstructorArgs.__init__(self, path=str(path))
        gym.Wrapper.__init__(self, env)
        self.path = Path(path)

    def step(self, action: Emission) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """A step; the last one of an episode writes it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            transcript = canvas_env(self).transcript
            transcript.ended = transcript.ended or Ending.TRUNCATED
            append_transcript(transcript, self.path)
        return observation, reward, terminated, truncated, info


class Critic(gym.Wrapper[Observation, Emission, Observation, Emission], RecordConstructorArgs):
    """Words from outside after an emission: a person's, or another model's.

    They are recorded with source "critic", shown as the observation's ``text``, cost nothing, leave the legal
    stages as they are, and cannot act as structure (``markup.neutralise``).

    Args:
        env: A ``CanvasEnv``, wrapped or not.
        speak: From the transcript so far to words, or "" for silence.
        stages: After which accepted stages it is asked; the images by default, before they are inspected.
    """

    def __init__(
        self,
        env: gym.Env[Observation, Emission],
        speak: Callable[[Transcript], str],
        stages: Iterable[Stage] = (Stage.SKETCH, Stage.REFINE),
    ) -> None:
        stages = tuple(Stage(stage) for stage in stages)
        RecordConstructorArgs.__init__(self, speak=speak, stages=stages)
        gym.Wrapper.__init__(self, env)
        self.speak, self.stages = speak, stages

    def step(self, action: Emission) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """A step, and what is said about it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        canvas = canvas_env(self)
        entry = canvas.transcript.emissions[-1]
        if not (terminated or truncated or entry.error) and entry.stage in self.stages:
            words = self.speak(canvas.transcript)
            if words:
                canvas.interject(words)
                observation = {**observation, "text": canvas.observe()["text"]}
        return observation, reward, terminated, truncated, info


def canvas_env(env: gym.Env[Any, Any]) -> CanvasEnv:
    """The ``CanvasEnv`` inside any number of wrappers."""
    inner = env.unwrapped
    if not isinstance(inner, CanvasEnv):
        raise ValueError(f"Expected a CanvasEnv inside the wrappers, got {type(inner).__name__}.")
    return inner
