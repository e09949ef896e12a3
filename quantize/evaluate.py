"""How good a model is on a text: perplexity, and how far it is from the model it was made of."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from engine.errors import EvaluationError
from engine.model.loader import LoadedModel, load_model
from engine.model.transformer import Transformer
from engine.ops.backend import Backend
from engine.text.tokenizer import load_tokenizer
from quantize.half_layer import whole_row
from quantize.progress import Progress
from quantize.tally import Tally
from quantize.text_windows import opening_tokens, text_tokens

LOGIT_ROWS = 256
"""Positions whose logits are held at once."""


@dataclass(frozen=True, slots=True)
class EvalReport:
    """What was found, and on what.

    Attributes:
        perplexity: exp of the mean negative log-likelihood of each token given those before it in its window.
        reference_perplexity: the same for the reference, if there is one.
        kl_mean: mean over positions of KL(reference ‖ model) in nats.
        kl_standard_error: its standard error, windows being independent.
        kl_p99: 99th percentile over positions.
        top1_agreement: share of positions where both models find the same token likeliest.
        tokens: predicted tokens.
        windows, length: rows that were run, and tokens in each.
        weight_format, bits_per_weight, head_bits_per_weight: of the model.
        kernels: what computed it.
    """

    model: str
    reference: str | None
    text: str
    perplexity: float
    reference_perplexity: float | None
    kl_mean: float | None
    kl_standard_error: float | None
    kl_p99: float | None
    top1_agreement: float | None
    tokens: int
    windows: int
    length: int
    weight_format: str
    bits_per_weight: float
    head_bits_per_weight: float
    kernels: str

    def to_json(self) -> str:
        """The report as a JSON object."""
        return json.dumps(asdict(self), indent=2)


def evaluate(
    model_dir: Path,
    text: Path,
    reference: Path | None,
    *,
    backend: Backend,
    progress: Progress,
    length: int = 512,
    rows: int | None = None,
) -> EvalReport:
    """Run a model over consecutive windows of a text.

    Args:
        model_dir: the model, in any format Quire reads.
        text: UTF-8 text, taken as it stands: no chat template is applied.
        reference: model to compare with, usually the one `model_dir` was quantized from.
        backend: computes both.
        progress: is told of every window.
        length: tokens per window, the tokenizer's BOS included where it adds one; at most the context length.
        rows: windows from the beginning of the text; None takes as many as there are.

    Raises:
        EvaluationError: the text is unreadable or too short, or the two models do not share a vocabulary.
        CheckpointError, UnsupportedModelError, TokenizerError: a model cannot be used.
    """
    tokenizer = load_tokenizer(model_dir)
    loaded = load_model(model_dir, backend)
    compared = None if reference is None else _load_reference(reference, backend, loaded)
    length = min(length, loaded.config.max_position_embeddings)
    tokens = text_tokens(text, tokenizer, EvaluationError)
    windows = _windows(tokens, opening_tokens(tokenizer), length, rows, text).to(backend.device)
    if int(windows.max()) >= loaded.config.vocab_size:
        raise EvaluationError(
            f"The tokenizer in {model_dir} makes token {int(windows.max())}, but the model knows only "
            f"{loaded.config.vocab_size}; they do not belong together."
        )
    progress.stage("Evaluating", len(windows))
    tally = Tally()
    for window in windows:
        _run_window(window, loaded.model, compared, tally)
        progress.advance()
    return EvalReport(
        model=str(model_dir),
        reference=None if reference is None else str(reference),
        text=str(text),
        perplexity=tally.perplexity,
        reference_perplexity=tally.reference_perplexity,
        kl_mean=tally.kl_mean,
        kl_standard_error=tally.kl_standard_error,
        kl_p99=tally.kl_p99,
        top1_agreement=tally.top1_agreement,
        tokens=tally.tokens,
        windows=windows.shape[0],
        length=length,
        weight_format=loaded.summary.weight_format,
        bits_per_weight=loaded.summary.bits_per_weight,
        head_bits_per_weight=loaded.summary.head_bits_per_weight,
        kernels=backend.name,
    )


def _load_reference(directory: Path, backend: Backend, model: LoadedModel) -> Transformer:
    reference = load_model(directory, backend)
    ours, theirs = model.config.vocab_size, reference.config.vocab_size
    if ours != theirs:
        raise EvaluationError(
            f"The model has a vocabulary of {ours} tokens and the reference {directory} one of {theirs}; only models "
            "with the same vocabulary can be compared."
        )
    return reference.model


def _windows(tokens: list[int], opening: list[int], length: int, rows: int | None, text: Path) -> torch.Tensor:
    """Consecutive windows [rows, length] int32 of a text, each begun with `opening`."""
    body = length - len(opening)
    if body < 1 or length < 2:
        raise EvaluationError(f"Windows of {length} tokens are too short to predict anything; use longer ones.")
    available = len(tokens) // body
    wanted = available if rows is None else rows
    if wanted < 1 or wanted > available:
        raise EvaluationError(
            f"{text} has {len(tokens)} tokens, enough for {available} windows of {length}, not for {max(wanted, 1)}. "
            "Use a longer text, or fewer or shorter windows."
        )
    starts = range(0, wanted * body, body)
    return torch.tensor([opening + tokens[start : start + body] for start in starts], dtype=torch.int32)


def _run_window(window: torch.Tensor, model: Transformer, reference: Transformer | None, tally: Tally) -> None:
    """Run both models over one window [length] and tally each token but the first."""
    stream = _residual_stream(model, window)
    compared = None if reference is None else _residual_stream(reference, window)
    for start in range(0, window.shape[0] - 1, LOGIT_ROWS):
        positions = slice(start, min(start + LOGIT_ROWS, window.shape[0] - 1))
        targets = window[positions.start + 1 : positions.stop + 1].long()
        scores = model.logits(stream[positions]).log_softmax(-1)
        known = None
        if reference is not None and compared is not None:
            known = reference.logits(compared[positions]).log_softmax(-1)
        tally.add(targets, scores, known)
    tally.end_window()


def _residual_stream(model: Transformer, window: torch.Tensor) -> torch.Tensor:
    """The residual stream [length, H] behind the last layer."""
    stream = model.embed(window)
    positions, attention = whole_row(stream)
    for layer in model.layers:
        layer.forward(stream, positions, attention)
    return stream
