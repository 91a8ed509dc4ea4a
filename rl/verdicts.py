"""Verdicts that are missing: how many may be, before a run stops."""

from ..rewards.judge import JudgeUnavailable


def check_missing(share: float, most: float, what: str) -> None:
    """Stop where too many verdicts of a generation are missing; what was learnt until then is kept.

    Args:
        share: Of them that are missing, in [0, 1].
        most: How many may be (``reward.max_missing``).
        what: They are verdicts on, in the plural.

    Raises:
        JudgeUnavailable: More are missing.
    """
    if share > most:
        raise JudgeUnavailable(
            f"Expected at most {most:.0%} of a generation's {what} without a verdict (reward.max_missing), got "
            f"{share:.0%}; mend the judge, then the same command goes on."
        )
