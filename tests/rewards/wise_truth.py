"""True marks of WISE's protocols on the knowledge benchmark, for the truthful server."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from strokes.rewards.knowledge import reply_to

ASKED = re.compile(r"^PROMPT: (?P<prompt>.*)$", re.MULTILINE)
"""Where a user's own instructions have the prompt, in these tests."""


def wise_v1(fields: Mapping[str, Any], images: Sequence[np.ndarray]) -> str:
    """Three marks."""
    return _known(reply_to("wise_v1", fields, images[0]), fields)


def wise_verified(fields: Mapping[str, Any], images: Sequence[np.ndarray]) -> str:
    """One score."""
    return _known(reply_to("wise_verified", fields, images[0]), fields)


def is_wise(text: str) -> bool:
    """Whether a text without a block of JSON asks for three marks."""
    return ASKED.search(text) is not None


def wise_in_words(text: str, images: Sequence[np.ndarray]) -> str:
    """Three marks for a prompt that is asked about in a user's own words."""
    found = ASKED.search(text)
    assert found is not None
    return wise_v1(found.groupdict(), images)


def _known(reply: str | None, fields: Mapping[str, Any]) -> str:
    if reply is None:
        raise LookupError(f"no prompt of the benchmark: {fields}")
    return reply
