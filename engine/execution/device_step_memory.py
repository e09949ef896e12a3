"""What running steps on a device takes of its memory besides the model and its activations, told from sizes alone."""

from __future__ import annotations

from engine.cache.kv_format import KVFormat
from engine.execution.recorded_steps import recordings_bytes
from engine.execution.step_input import StepSize
from engine.ops.cuda_sampling import held_bytes
from engine.sampling.device_layout import RECORD, most_bytes


def device_step_bytes(kv_format: KVFormat, block_size: int, vocab_size: int, tokens: int, rows: int) -> int:
    """Bytes for steps of at most so many tokens and rows of logits; block tables, which depend on lengths, left out."""
    copied = kv_format.num_kv_heads * block_size * kv_format.head_dim * kv_format.dtype.itemsize
    size = StepSize(tokens, rows, rows, 0, rows, most_bytes(rows, vocab_size), reads=tokens, states=tokens)
    token_ids = 4 * tokens
    results = (rows + tokens) * (4 + RECORD.itemsize) + 16  # the tokens are filled up to a multiple of 16 bytes
    held = size.layout().nbytes + token_ids + results + rows * copied + held_bytes(vocab_size, rows)
    return held + recordings_bytes(kv_format.num_layers, rows)
