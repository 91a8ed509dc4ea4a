"""The process as an environment: canvases, transcripts, prompts, reports. No deep-learning library is imported here.

Importing this package registers ``strokes/Scenes-v0`` and ``strokes/Canvas-v0`` with Gymnasium.
"""

import gymnasium

from .archive import append_transcript, load_transcripts, read_transcripts, save_transcripts
from .canvas import CanvasEnv
from .filmstrip import ansi, contact_sheet, strip_escapes
from .prompts import HubPrompts, JsonlPrompts, ListPrompts, Prompt, Prompts, ScenePrompts, make_prompts
from .protocols import Answerer, Chat, Cost, Policy, Reply, Reward, Score, Session, Transition
from .spaces import Emissions, Prose
from .stages import FOLLOWS, Emission, Grammar, Stage, legal
from .transcript import Ending, Entry, InvalidContent, Transcript

__all__ = [
    "FOLLOWS",
    "Answerer",
    "CanvasEnv",
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

gymnasium.register(
    id="strokes/Scenes-v0",
    entry_point="strokes.envs.canvas:CanvasEnv",
    kwargs={"prompts": "scenes", "reward": "strokes.rewards.scenes:SceneReward"},
)
gymnasium.register(id="strokes/Canvas-v0", entry_point="strokes.envs.canvas:CanvasEnv")
