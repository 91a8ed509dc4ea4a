"""How a text may begin: with ``<ins>`` if it must be a plan, with anything else if it must be an inspection.

The rule is about characters, not tokens: a byte-level vocabulary can spell ``<ins>`` in several ways and merge its
last character with what follows, so the ids that may come next are read off the strings of the vocabulary.
"""

from collections.abc import Sequence

from .generate import Allowed
from .tokenizer import Tokenizer

PLAN = "<ins>"
"""What a plan begins with (``markup.is_plan``)."""
_SPACES = {"Ġ": " ", "Ċ": "\n", "ĉ": "\t", "č": "\r"}
"""White space as byte-level vocabularies write it."""


class Prefixes:
    """Constraints on the beginning of texts, for one vocabulary."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """Args:

        tokenizer: Gives the strings of the ids.
        vocab_size: Ids of the model, of which the tokenizer may use fewer.
        """
        table = str.maketrans(_SPACES)
        known = tokenizer.base.convert_ids_to_tokens(list(range(min(len(tokenizer), vocab_size))))
        self._strings = [token.translate(table) for token in known] + [""] * (vocab_size - len(known))
        self._plan: dict[str, Allowed] = {}
        self._other: dict[str, Allowed] = {}

    def plan(self, ids: Sequence[int]) -> Allowed | None:
        """What may follow ``ids`` in a text that must begin with ``<ins>``."""
        so_far = self._text(ids)
        if so_far.startswith(PLAN):
            return None
        if so_far not in self._plan:
            rest = PLAN[len(so_far) :]
            self._plan[so_far] = Allowed(
                [i for i, s in enumerate(self._strings) if s and (rest.startswith(s) or s.startswith(rest))]
            )
        return self._plan[so_far]

    def other(self, ids: Sequence[int]) -> Allowed | None:
        """What may follow ``ids`` in a text that must not begin with ``<ins>``, white space aside."""
        so_far = self._text(ids).lstrip()
        if not PLAN.startswith(so_far):
            return None
        if so_far not in self._other:
            self._other[so_far] = Allowed(
                [i for i, s in enumerate(self._strings) if not (so_far + s).lstrip().startswith(PLAN)]
            )
        return self._other[so_far]

    def _text(self, ids: Sequence[int]) -> str:
        return "".join(self._strings[i] for i in ids)
