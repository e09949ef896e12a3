"""How models that were taught to fill gaps are told what stands before and after one.

There is no common form. Each family has tokens of its own, of which the tokenizer shows that it has them; which come
first, and with which the model ends what it filled in, is known of the family alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class GapForm:
    """The tokens of one family, as its tokenizers spell them.

    Attributes:
        prefix: stands before the text that comes first.
        suffix: stands before the text that comes after the gap.
        middle: stands where the model begins to write; empty if that needs no token.
        ends: with which the model ends, besides its end tokens.
        suffix_first: whether the text after the gap comes first.
        joins: whether its tokenizers begin every text with a space that is not in it, which the text after the gap must
            go without.
    """

    prefix: str
    suffix: str
    middle: str
    ends: tuple[str, ...] = ()
    suffix_first: bool = False
    joins: bool = False


FORMS = (
    # Qwen2.5-Coder, CodeGemma
    GapForm(
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        ("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|file_separator|>", "<|endoftext|>"),
    ),
    # StarCoder, StarCoder2, Granite Code, StableCode
    GapForm("<fim_prefix>", "<fim_suffix>", "<fim_middle>", ("<fim_pad>", "<file_sep>", "<|endoftext|>")),
    GapForm("<fim-prefix>", "<fim-suffix>", "<fim-middle>", ("<fim-pad>", "<|endoftext|>")),  # SantaCoder
    GapForm("▁<PRE>", "▁<SUF>", "▁<MID>", ("▁<EOT>",), joins=True),  # CodeLlama
    GapForm("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
    GapForm("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),  # CodeGeeX, GLM
    GapForm("[PREFIX]", "[SUFFIX]", "[MIDDLE]", suffix_first=True),  # Codestral with a token of its own for the gap
    GapForm("[PREFIX]", "[SUFFIX]", "", suffix_first=True),  # Codestral
)
"""Known forms; the first whose tokens a tokenizer has is its own."""


@dataclass(frozen=True, slots=True)
class FillInMiddle:
    """A model's way to fill gaps.

    Attributes:
        form: the family's.
        tokenizer: the model's.
        end_token_ids: with which the model ends what it filled in.
    """

    form: GapForm
    tokenizer: Tokenizer
    end_token_ids: tuple[int, ...]

    def prompt(self, before: Sequence[int], after: str, begin: Sequence[int] = ()) -> list[int]:
        """Token ids of a prompt that has the model write what stands between two texts.

        Args:
            before: token ids of the first, without special tokens.
            after: the other.
            begin: what texts begin with (BOS).
        """
        form = self.form
        first = [*self._token(form.prefix), *before]
        last = [*self._token(form.suffix), *self._encoded(after)]
        return [*begin, *(last + first if form.suffix_first else first + last), *self._token(form.middle)]

    def _token(self, token: str) -> list[int]:
        return [] if (token_id := _added(self.tokenizer, token)) is None else [token_id]

    def _encoded(self, after: str) -> list[int]:
        ids = self.tokenizer.encode(after, add_special_tokens=False)
        if not self.form.joins:
            return ids
        # behind a character that nothing is joined with, the space is not added a second time
        alone = self.tokenizer.encode(_APART, add_special_tokens=False)
        behind = self.tokenizer.encode(_APART + after, add_special_tokens=False)
        return behind[len(alone) :] if behind[: len(alone)] == alone else ids


_APART = "☺"


def fill_in_middle(tokenizer: Tokenizer) -> FillInMiddle | None:
    """How the model of this tokenizer fills gaps, or None if it was not taught to."""
    for form in FORMS:
        if all(_added(tokenizer, token) is not None for token in (form.prefix, form.suffix, form.middle) if token):
            ends = (_added(tokenizer, token) for token in form.ends)
            return FillInMiddle(form, tokenizer, tuple(token_id for token_id in ends if token_id is not None))
    return None


def _added(tokenizer: Tokenizer, token: str) -> int | None:
    """The id of a token that the tokenizer never makes out of parts of a text."""
    token_id = tokenizer.token_to_id(token)
    return token_id if token_id in tokenizer.added_ids else None
