"""Stands in for the words of clients: text and token ids that say nothing and have the same number of tokens."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from functools import cached_property

from engine.errors import InvalidRequestError
from engine.text.tokenizer import Tokenizer

_WORD = re.compile(r"[Ġ▁]([a-z]{3,9})")
_LETTER = re.compile(r"[a-z]")
MAX_WORDS = 512
_ATTEMPTS = 8


class Filler:
    """Replaces texts by words that are one token each, drawn by a keyed hash of everything before them in the text.

    Equal beginnings therefore stay equal beginnings, so that replayed requests share cached prefixes as the real ones
    did, and from the first difference on nothing is alike. The key is drawn for each process and written nowhere: what
    stood there cannot be found by trying.

    Args:
        tokenizer: of the model; counts tokens and gives the words. Kept as an attribute.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._key = secrets.token_bytes(32)

    def text(self, original: str) -> str:
        """A text of as many tokens; where the tokenizer does not allow that, of nearly as many."""
        try:
            ids = self.tokenizer.encode(original, add_special_tokens=False)
        except InvalidRequestError:  # half of a surrogate pair
            return "�"
        words = [self._words[number][1] for number in self._draws(ids)]
        return self._fitted(words, len(ids))

    def ids(self, original: Sequence[int]) -> list[int]:
        """As many token ids."""
        return [self._words[number][0] for number in self._draws(original)]

    def name(self, original: str) -> str:
        """A name, the same for the same original: for keys of objects, and where these are named."""
        return f"x_{hashlib.blake2b(original.encode(errors='replace'), key=self._key, digest_size=5).hexdigest()}"

    @cached_property
    def _words(self) -> list[tuple[int, str]]:
        """Token ids and texts to draw from; the text of a word begins with its space."""
        spelled = sorted((token_id, token) for token, token_id in self.tokenizer.vocabulary().items())
        words = [(token_id, f" {found[1]}") for token_id, token in spelled if (found := _WORD.fullmatch(token))]
        if len(words) < 32:
            words = [(token_id, token) for token_id, token in spelled if _LETTER.fullmatch(token)]
        return words[:MAX_WORDS] or [(0, "x")]

    def _draws(self, ids: Sequence[int]) -> Iterator[int]:
        state = b""
        for each in ids:
            state = hashlib.blake2b(state + each.to_bytes(8), key=self._key, digest_size=8).digest()
            yield int.from_bytes(state) % len(self._words)

    def _fitted(self, words: list[str], wanted: int) -> str:
        """The words joined; some tokenizers count the space at the beginning as a token, or join words."""
        text = "".join(words)
        for _ in range(_ATTEMPTS):
            for candidate in (text, text.lstrip()):
                count = len(self.tokenizer.encode(candidate, add_special_tokens=False))
                if count == wanted:
                    return candidate
            words = words[: wanted - count] if count > wanted else [*words, *words[: wanted - count]]
            text = "".join(words)
        return text
