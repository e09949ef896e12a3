"""Stage: are a row's bits the same alone and among others, in one chunk and in several, recorded and not, run again?

Kernels first; then a small random model, answered by the engine together and recorded, and alone and kernel by kernel.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.gpu.card import Card
from benchmarks.gpu.engine_under_test import EngineUnderTest, Load, answer_all
from benchmarks.gpu.matrices import every_width, random_exl2
from benchmarks.gpu.program import Program
from benchmarks.gpu.random_model import load_random_model
from benchmarks.random_exl2_model import RandomModel
from benchmarks.report import Row
from engine.ops.backend import AttentionBatch, GroupKernel
from engine.ops.cuda_backend import CudaBackend
from engine.ops.cuda_exl2_matrix import FUSED_ROWS
from engine.types import GenerationRequest, SamplingParams

PARTS = (slice(0, 1), slice(0, 7), slice(5, 22), slice(63, 64))
"""Rows of 64 that are computed by themselves."""

MODEL = RandomModel(hidden=512, layers=3, intermediate=1024, heads=8, kv_heads=2, vocab=2048, widths=(6, 4, 3, 2))


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is tried.

    Attributes:
        group_rows: rows of a matrix in each width.
        outputs: of the matrix.
        lengths: of sequences that are decoded.
        prompt: tokens of a prompt that is computed in chunks of `chunks`.
        chunks: lengths of the chunks; their sum is no more than `prompt`.
        model: its shape.
        load: what the engine is asked. No step has more rows than products take that do not depend on how many there
            are; beyond, bits are those of torch's products.
    """

    group_rows: int = 640
    outputs: int = 4096
    lengths: tuple[int, ...] = (1, 17, 700, 4000, 129)
    prompt: int = 700
    chunks: tuple[int, ...] = (1, 300, 16, 128, 255)
    model: RandomModel = MODEL
    load: Load = Load(streams=24, prompt=70, answer=24, step_tokens=FUSED_ROWS)


SMALL = Sizes(
    group_rows=32,
    outputs=32,
    lengths=(1, 17, 150),
    prompt=40,
    chunks=(1, 16, 23),
    model=RandomModel(hidden=64, layers=1, intermediate=32, heads=2, kv_heads=1, vocab=96, positions=64, widths=(4,)),
    load=Load(streams=3, prompt=5, answer=4, step_tokens=8),
)
"""For the tests."""


def _different(name: str, pairs: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> Row:
    count = sum(int((one != other).sum()) for one, other in pairs)
    return Row(f"{name}: elements that differ", float(count), "elements", 0.0)


def check_products(card: Card, sizes: Sizes) -> Iterator[Row]:
    """EXL2 products of 64 rows, and of some of them: with one matrix, and with two in one launch."""
    backend = CudaBackend(card.runtime)
    tensors = [random_exl2(every_width(sizes.group_rows), sizes.outputs, seed=seed) for seed in (0, 1)]
    tensors[1] = replace(tensors[1], q_invperm=tensors[0].q_invperm)
    kernels = [backend.prepare_exl2(each) for each in tensors]
    x = torch.randn(64, kernels[0].in_features, generator=torch.Generator().manual_seed(1)).half().to(card.device)
    for name, some in (("one matrix", kernels[:1]), ("two matrices", kernels)):
        group = backend.prepare_group(some)
        if group is None:
            raise RuntimeError(f"{backend.name} does not compute {name} in one launch.")
        whole = _product(group, x)
        pairs = ((_product(group, x[part]), whole[part]) for part in PARTS)
        yield _different(f"EXL2 products with {name}, alone and among 64 rows", pairs)


def _product(group: GroupKernel, rows: torch.Tensor) -> torch.Tensor:
    """Of all matrices, side by side; rows are in whatever order the group takes them."""
    outs = [torch.empty(len(rows), each.out_features, dtype=rows.dtype, device=rows.device) for each in group.kernels]
    group(rows.contiguous(), outs)
    return torch.cat(outs, dim=1)


@dataclass(frozen=True, slots=True)
class _Cached:
    """Sequences in a cache, one query for each of their tokens from some position on."""

    card: Card
    keys: torch.Tensor
    values: torch.Tensor
    tables: torch.Tensor

    def attend(self, q: torch.Tensor, sequences: Sequence[int], ends: Sequence[int]) -> torch.Tensor:
        """Attention of the last queries of some sequences, as many of each; q [T, heads, D]."""
        count = len(q) // len(sequences)

        def placed(values: Sequence[int]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.int32).to(self.card.device)

        batch = AttentionBatch(
            query_start=placed([index * count for index in range(len(sequences) + 1)]),
            context_lens=placed(ends),
            block_tables=self.tables[list(sequences)].contiguous(),
            slots=placed([0] * len(q)),
        )
        out = torch.empty_like(q)
        scale = q.shape[2] ** -0.5
        CudaBackend(self.card.runtime).paged_attention(q, self.keys, self.values, batch, scale, None, out)
        return out


def _cached(card: Card, lengths: Sequence[int], kv_heads: int, head_dim: int) -> _Cached:
    generator = torch.Generator().manual_seed(2)
    width = -(-max(lengths) // 16)
    shape = (width * len(lengths), kv_heads, 16, head_dim)
    keys, values = (torch.randn(shape, generator=generator).half().to(card.device) for _ in range(2))
    tables = torch.randperm(shape[0], generator=generator).to(torch.int32).reshape(len(lengths), width)
    return _Cached(card, keys, values, tables.to(card.device))


def check_attention(card: Card, sizes: Sizes) -> Iterator[Row]:
    """Decode steps of one sequence and of several; a prompt at once and in chunks."""
    generator = torch.Generator().manual_seed(3)
    lengths = sizes.lengths
    cached = _cached(card, lengths, 2, 128)
    q = torch.randn(len(lengths), 8, 128, generator=generator).half().to(card.device)
    together = cached.attend(q, range(len(lengths)), lengths)
    alone = (
        (cached.attend(q[row : row + 1].contiguous(), [row], [length]), together[row : row + 1])
        for row, length in enumerate(lengths)
    )
    yield _different("attention of decode steps, alone and among others", alone)

    cached = _cached(card, [sizes.prompt], 2, 128)
    q = torch.randn(sizes.prompt, 8, 128, generator=generator).half().to(card.device)
    whole = cached.attend(q, [0], [sizes.prompt])
    ends = [sum(sizes.chunks[: index + 1]) for index in range(len(sizes.chunks))]
    pieces = (
        (cached.attend(q[end - chunk : end].contiguous(), [0], [end]), whole[end - chunk : end])
        for chunk, end in zip(sizes.chunks, ends, strict=True)
    )
    yield _different("attention of a prompt, in one chunk and in several", pieces)


def check_engine(card: Card, sizes: Sizes) -> Iterator[Row]:
    """Answers with their log-probabilities, however the engine comes to them; and that it waits for results alone."""
    load = sizes.load
    loaded = load_random_model(sizes.model, CudaBackend(card.runtime), load.step_tokens)
    wanted = _requests(load, sizes.model.vocab)

    def answers(*, graphs: bool, together: bool) -> dict[str, object]:
        core = EngineUnderTest(card, loaded, load, graphs=graphs).core
        with card.refusing_to_wait():
            if together:
                return answer_all(core, wanted)
            return {name: answer for each in wanted for name, answer in answer_all(core, [each]).items()}

    expected = answers(graphs=False, together=False)
    for how, graphs, together in (
        ("together", False, True),
        ("together and recorded", True, True),
        ("alone and recorded", True, False),
    ):
        found = answers(graphs=graphs, together=together)
        different = sum(found[name] != expected[name] for name in expected)
        yield Row(f"{len(expected)} answers of the engine, {how}: differ", float(different), "answers", 0.0)


def _requests(load: Load, vocab: int) -> list[GenerationRequest]:
    """Greedy and drawn in turn, prompts of different lengths."""
    generator = torch.Generator().manual_seed(4)
    return [
        GenerationRequest(
            str(index),
            tuple(torch.randint(vocab, (1 + index * 7 % load.prompt,), generator=generator).tolist()),
            SamplingParams(
                temperature=index % 2, top_p=0.9, max_tokens=load.answer, ignore_eos=True, seed=index, logprobs=2
            ),
        )
        for index in range(load.streams)
    ]


def measure(card: Card, sizes: Sizes) -> Iterator[Row]:
    """All of it."""
    yield from check_products(card, sizes)
    yield from check_attention(card, sizes)
    yield from check_engine(card, sizes)


PROGRAM = Program(__doc__, lambda card, wanted: measure(card, SMALL if wanted.small else Sizes()), checks=True)


if __name__ == "__main__":
    sys.exit(PROGRAM.main())
