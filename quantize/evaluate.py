"""How good a model is on a text: perplexity, and how far it is from the model it was made of."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from engine.errors import EvaluationError
from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig, load_config
from engine.model.loader import ModelParts
from engine.ops.backend import Backend
from engine.text.tokenizer import load_tokenizer
from quantize.progress import Progress
from quantize.streamed_model import StreamedModel
from quantize.tally import Tally
from quantize.text_windows import TextEncoder, check_vocabulary, opening_tokens, text_tokens

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
        length_requested: tokens in each that were asked for; more than `length` where a model's context is shorter.
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
    length_requested: int
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
    ignore_config_keys: tuple[str, ...] = (),
) -> EvalReport:
    """Run a model over consecutive windows of a text.

    Args:
        model_dir: the model, in any format Quire reads.
        text: UTF-8 text, taken as it stands: no chat template is applied.
        reference: model to compare with, usually the one `model_dir` was quantized from.
        backend: computes both.
        progress: is told of every window.
        length: tokens per window, the tokenizer's BOS included where it adds one; where the context of a model is
            shorter, both get windows of that length.
        rows: windows from the beginning of the text; None takes as many as there are.
        ignore_config_keys: keys to treat as absent from the config.json of either model.

    Raises:
        EvaluationError: the text is unreadable or too short, or the two models do not share a vocabulary.
        CheckpointError, UnsupportedModelError, TokenizerError: a model cannot be used.
    """
    config = load_config(model_dir, ignore_config_keys)
    reference_config = None if reference is None else load_config(reference, ignore_config_keys)
    used = min(length, _context(config, reference_config))
    windows = read_windows(text, load_tokenizer(model_dir), used, rows)
    check_vocabulary(windows, config.vocab_size, model_dir, EvaluationError)
    parts = ModelParts.open(Checkpoint.open(model_dir), config, backend, used, used)
    compared = None
    if reference is not None and reference_config is not None:
        compared = StreamedModel(ModelParts.open(Checkpoint.open(reference), reference_config, backend, used, used))
    with tempfile.TemporaryDirectory() as scratch:
        tally = compare(StreamedModel(parts), compared, windows, Path(scratch), progress)
    summary = parts.summary()
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
        length=used,
        length_requested=length,
        weight_format=summary.weight_format,
        bits_per_weight=summary.bits_per_weight,
        head_bits_per_weight=summary.head_bits_per_weight,
        kernels=backend.name,
    )


def compare(
    model: StreamedModel, reference: StreamedModel | None, windows: torch.Tensor, scratch: Path, progress: Progress
) -> Tally:
    """Run a model, and one to compare it with, over the same windows.

    Args:
        model: of it perplexity and divergence are wanted.
        reference: what it is compared with; None for perplexity alone.
        windows: int32 [windows, length].
        scratch: folder for the residual streams of all windows.
        progress: is told of every layer of both, and of every window.
    """
    layers = model.config.num_layers + (reference.config.num_layers if reference else 0)
    progress.stage("Evaluating", layers + len(windows))
    streams = model.run(scratch / "model.f32", windows, progress.advance)
    known = reference.run(scratch / "reference.f32", windows, progress.advance) if reference else None
    output, known_output = model.output(), reference.output() if reference else None
    tally = Tally()
    for index, window in enumerate(windows.to(model.backend.device)):
        stream, known_stream = streams.read(index), known.read(index) if known else None
        for start in range(0, window.shape[0] - 1, LOGIT_ROWS):
            end = min(start + LOGIT_ROWS, window.shape[0] - 1)
            tally.add(
                window[start + 1 : end + 1].long(),
                output.log_probabilities(stream[start:end]),
                None
                if known_output is None or known_stream is None
                else known_output.log_probabilities(known_stream[start:end]),
            )
        tally.end_window()
        progress.advance()
    streams.remove()
    if known:
        known.remove()
    return tally


def _context(model: ModelConfig, reference: ModelConfig | None) -> int:
    """Tokens that both models can look back on."""
    if reference is None:
        return model.max_position_embeddings
    if model.vocab_size != reference.vocab_size:
        raise EvaluationError(
            f"The model has a vocabulary of {model.vocab_size} tokens and the reference one of "
            f"{reference.vocab_size}; only models with the same vocabulary can be compared."
        )
    return min(model.max_position_embeddings, reference.max_position_embeddings)


def read_windows(text: Path, encoder: TextEncoder, length: int, rows: int | None) -> torch.Tensor:
    """Consecutive windows [rows, length] int32 of a text, each begun as the tokenizer begins texts."""
    opening = opening_tokens(encoder)
    body = length - len(opening)
    if body < 1 or length < 2:
        raise EvaluationError(f"Windows of {length} tokens are too short to predict anything; use longer ones.")
    tokens = text_tokens(text, encoder, EvaluationError)
    available = len(tokens) // body
    wanted = available if rows is None else rows
    if wanted < 1 or wanted > available:
        raise EvaluationError(
            f"{text} has {len(tokens)} tokens, enough for {available} windows of {length}, not for {max(wanted, 1)}. "
            "Use a longer text, or fewer or shorter windows."
        )
    starts = range(0, wanted * body, body)
    return torch.tensor([opening + tokens[start : start + body] for start in starts], dtype=torch.int32)
