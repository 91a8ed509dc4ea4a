"""The process as an environment: canvases, transcripts, prompts, reports. No deep-learning library is imported here.

Importing this package registers ``strokes/Scenes-v0`` and ``strokes/Canvas-v0`` with Gymnasium.
"""

import gymnasium

from .archive import append_transcript, load_transcripts, read_transcripts, save_transcripts
from .canvas import CanvasEnv
from .filmstrip import ansi, contact_sheet, strip_escapes
from .prompts import HubPrompts, JsonlPrompts, ListPrompts, Prompt, Prompts, ScenePrompts, make_prompts
from .protocols import Answerer, Chat, Cost, Policy, Reply, Reward, Said, Score, Session, Transition
from .spaces import Emissions, Prose
from .stages import FOLLOWS, Emission, Grammar, Stage, legal
from .transcript import Ending, Entry, InvalidContent, Transcript
from .vector import CanvasVectorEnv

__all__ = [
    "FOLLOWS",
    "Answerer",
    "CanvasEnv",
    "CanvasVectorEnv",
    "Chat",
    "Cost",
    "Emission",
    "Emissions",
    "Ending",
    "Entry",
    "Grammar",
    "HubPrompts",
    "InvalidContent",
    "JsonlPrompts",
    "ListPrompts",
    "Policy",
    "Prompt",
    "Prompts",
    "Prose",
    "Reply",
    "Reward",
    "Said",
    "ScenePrompts",
    "Score",
    "Session",
    "Stage",
    "Transcript",
    "Transition",
    "ansi",
    "append_transcript",
    "contact_sheet",
    "legal",
    "load_transcripts",
    "make_prompts",
    "read_transcripts",
    "save_transcripts",
    "strip_escapes",
]

for _id, _kwargs in {
    "strokes/Canvas-v0": {},
    "strokes/Scenes-v0": {"prompts": "scenes", "reward": "strokes.rewards.scenes:SceneReward"},
}.items():
    gymnasium.register(
        id=_id,
        entry_point="strokes.envs.canvas:CanvasEnv",
        vector_entry_point="strokes.envs.vector:CanvasVectorEnv",
        kwargs=_kwargs,
    )
