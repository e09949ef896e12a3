"""Text to token ids and back: a thin layer over the `tokenizers` library that reads a model directory as
`transformers` would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from engine.errors import InvalidRequestError, TokenizerError
from engine.model_files import parse_json_object, read_json_object, read_text
from engine.text.length_bound import length_bound
from engine.text.special_tokens import declared_added_tokens, load_special_tokens

_MAX_ID = 2**32 - 1


class Tokenizer:
    """The tokenizer of one model. Safe to use from several threads.

    Attributes:
        special_tokens: text of the named special tokens (`bos_token`, `eos_token`, `pad_token`, ...) there are.
        special_ids: ids of all tokens marked special; `decode` leaves them out unless told otherwise.
        added_ids: ids of tokens added on top of the trained vocabulary, special or not; their text is verbatim.
        vocab_size: one more than the largest id; the model's own is often padded beyond it.
        decoder: the `decoder` section of tokenizer.json.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, special_tokens: Mapping[str, str], layout: Mapping[str, Any]
    ) -> None:
        self._backend = backend
        self.special_tokens = dict(special_tokens)
        self.decoder: Mapping[str, Any] | None = layout.get("decoder")
        self.vocab_size = max(self.vocabulary().values(), default=-1) + 1
        added = backend.get_added_tokens_decoder()
        self.added_ids = frozenset(added)
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        self._length_bound = length_bound(
            layout,
            self.vocabulary(),
            swallows_whitespace=any(token.lstrip or token.rstrip for token in added.values()),
        )

    @property
    def bos_token(self) -> str | None:
        """Token that begins a text, where the model has one."""
        return self.special_tokens.get("bos_token")

    @property
    def eos_token(self) -> str | None:
        """Token that ends a text or a turn, where the model has one."""
        return self.special_tokens.get("eos_token")

    @property
    def bos_token_id(self) -> int | None:
        """Id of `bos_token`."""
        return None if self.bos_token is None else self.token_to_id(self.bos_token)

    @property
    def eos_token_id(self) -> int | None:
        """Id of `eos_token`."""
        return None if self.eos_token is None else self.token_to_id(self.eos_token)

    @property
    def adds_bos(self) -> bool:
        """Whether `encode` begins a text with `bos_token` unless told otherwise."""
        return self.bos_token_id is not None and self.encode("")[:1] == [self.bos_token_id]

    def vocabulary(self) -> dict[str, int]:
        """Every token as the tokenizer spells it (`Ġthe`, `▁the`, `<0x0A>`), with its id."""
        vocabulary: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return vocabulary

    def fewest_tokens(self, text: str) -> int:
        """Tokens the text has at least, told from its length alone; 0 where that tells nothing."""
        return 0 if self._length_bound is None else self._length_bound.fewest_tokens(text)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`; special tokens spelled out in it count as such.

        Args:
            text: what to encode.
            add_special_tokens: also add what the model expects around a text (a BOS token, say). A rendered chat
                template contains these already.

        Raises:
            InvalidRequestError: the text is not valid Unicode (a lone surrogate).
        """
        try:
            text.encode()
        except UnicodeEncodeError as problem:
            raise InvalidRequestError(
                f"The text is not valid Unicode: character {problem.start} is a lone surrogate."
            ) from None
        # the batch form alone can leave out where in the text each token stands, which takes most time and memory
        (encoding,) = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        ids: list[int] = encoding.ids
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of these ids; ids without a token give nothing.

        Raises:
            InvalidRequestError: an id is negative or too large to be one.
        """
        for token_id in ids:
            if not 0 <= token_id <= _MAX_ID:
                raise InvalidRequestError(f"{token_id} is not a token id.", param="tokens")
        text: str = self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def token_to_id(self, token: str) -> int | None:
        """Id of the token that is spelled like this, or None."""
        token_id: int | None = self._backend.token_to_id(token)
        return token_id

    def id_to_token(self, token_id: int) -> str | None:
        """How the tokenizer spells the token of this id (`Ġthe`, `▁the`, `<0x0A>`), or None."""
        if not 0 <= token_id <= _MAX_ID:
            return None
        token: str | None = self._backend.id_to_token(token_id)
        return token


def load_tokenizer(directory: Path) -> Tokenizer:
    """Read `tokenizer.json` and the settings beside it.

    Settings are applied as `transformers` applies them: named special tokens count as special even where
    tokenizer.json does not say so, tokens only tokenizer_config.json knows are added, stored truncation and padding
    are off, and the post-processor alone decides what is added around a text: `add_bos_token` and `add_eos_token` of
    tokenizer_config.json speak to code that builds a tokenizer without a tokenizer.json.

    Raises:
        TokenizerError: a file is missing, corrupt or of a kind that is not supported.
    """
    path = directory / "tokenizer.json"
    text = read_text(path, TokenizerError)
    if text is None:
        raise TokenizerError(_missing(directory))
    layout = parse_json_object(text, path, TokenizerError)
    backend = _parse(text, path)
    backend.no_truncation()
    backend.no_padding()
    config = read_json_object(directory / "tokenizer_config.json", TokenizerError) or {}
    special_tokens = load_special_tokens(directory)
    _add_declared(backend, config)
    backend.add_special_tokens(
        [_verbatim(token) for token in special_tokens.values() if backend.token_to_id(token) is not None]
    )
    return Tokenizer(backend, special_tokens, layout)


def _missing(directory: Path) -> str:
    if not directory.is_dir():
        return f"{directory} is not a directory."
    if (directory / "tokenizer.model").exists():
        return (
            f"{directory} has a SentencePiece tokenizer.model but no tokenizer.json, which Quire needs. Convert it "
            f"once with `transformers`: AutoTokenizer.from_pretrained('{directory}').save_pretrained('{directory}')."
        )
    return f"{directory / 'tokenizer.json'} is missing; copy it from the model this one was made from."


def _parse(text: str, path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as problem:  # noqa: BLE001 - the library raises nothing narrower than Exception itself
        raise TokenizerError(f"{path} is not a tokenizer the `tokenizers` library can read: {problem}.") from None


def _verbatim(token: str) -> tokenizers.AddedToken:
    return tokenizers.AddedToken(token, special=True, normalized=False)


def _add_declared(backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
    """Add the tokens tokenizer_config.json declares and tokenizer.json lacks, at the ids it declares."""
    for token_id, entry in sorted(declared_added_tokens(config).items()):
        content = entry["content"]
        if backend.token_to_id(content) is not None:
            continue
        flags = {name: bool(entry.get(name, False)) for name in ("single_word", "lstrip", "rstrip", "special")}
        flags["normalized"] = bool(entry.get("normalized", not flags["special"]))
        backend.add_tokens([tokenizers.AddedToken(content, **flags)])
        if backend.token_to_id(content) != token_id:
            raise TokenizerError(
                f"tokenizer_config.json gives token '{content}' the id {token_id}, but tokenizer.json has room for it "
                f"only at {backend.token_to_id(content)}; the two files do not belong together."
            )
