"""Rewards: transcripts to scores. Light at import; models are loaded on first use."""

from .form import Economy, Grammar, Length
from .review import Review, review
from .scenes import SceneReward
from .score import Sum
from .summary import Comparison, Result, Summary, compare, summarise

__all__ = [
    "Comparison", "Economy", "Grammar", "Length", "Result", "Review", "SceneReward", "Sum", "Summary",
    "compare", "review", "summarise",
]  # fmt: skip
