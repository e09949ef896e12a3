"""What the sweep tries of ops without weights, and of plain matrices: each op with each of its options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from engine.ops.backend import AttentionBatch, Backend

Call = Callable[[Backend, Sequence[torch.Tensor]], torch.Tensor]

BLOCK = 16
"""Positions in a block of the caches."""


@dataclass(frozen=True, slots=True)
class Case:
    """An op with its inputs.

    Attributes:
        name: for people.
        inputs: floating point ones are activations; the others stay as they are.
        call: runs it on a backend, and returns its output.
        stored: type that some of the output is rounded to on the way, besides that of activations; None for no other.
    """

    name: str
    inputs: tuple[torch.Tensor, ...]
    call: Call
    stored: torch.dtype | None = None


def permutation(count: int) -> torch.Tensor:
    """An order of features."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(count)).to(torch.int32)


def elementwise_cases(rows: int, width: int) -> Iterator[Case]:
    """Norm, gate, sum, and rows of tables."""
    x, y, weight = _random((rows, width)), _random((rows, width), 1), _random((width,), 2)
    order = permutation(width)
    ids = torch.arange(rows, dtype=torch.int32).flip(0)

    def norm(kept: torch.dtype | None, ordered: bool) -> Call:
        def call(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
            out = torch.empty_like(given[0])
            backend.rms_norm(given[0], _as(kept, given[1]), 1e-5, out, given[2] if ordered else None)
            return out

        return call

    def gate(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        out, ordered = torch.empty_like(given[0]), torch.empty_like(given[0])
        backend.silu_mul(given[0], given[1], out)
        backend.silu_mul(given[0], given[1], ordered, given[2])
        return torch.cat([out, ordered])

    def add(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        total = given[1].clone()
        backend.add(given[0], total)
        return total

    def embed(kept: torch.dtype | None) -> Call:
        def call(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
            out = torch.empty_like(given[0])
            backend.embed(given[1], _as(kept, given[0]), out)
            return out

        return call

    def take(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        out = torch.empty_like(given[0])
        backend.take_rows(given[0], given[1], out)
        return out

    size = f"[{rows}, {width}]"
    for kept in (None, torch.float32):
        stored = "" if kept is None else f", weights in {_short(kept)}"
        yield Case(f"rms_norm {size}{stored}", (x, weight), norm(kept, ordered=False))
        yield Case(f"rms_norm in an order {size}{stored}", (x, weight, order), norm(kept, ordered=True))
        yield Case(f"embed {size}{stored}", (x, ids), embed(kept))
    yield Case(f"silu_mul, in an order too {size}", (x, y, order), gate)
    yield Case(f"add {size}", (x, y), add)
    yield Case(f"take_rows {size}", (x, ids), take)


def cache_cases(rows: int) -> Iterator[Case]:
    """Rotation, and keys and values on their way into caches of every type; every third token has no slot."""
    shapes = ((8, 128), (2, 128), (2, 128), (2, BLOCK, 128))
    q, k, v, caches = (_random((rows, *shape), seed) for seed, shape in enumerate(shapes))
    angles = _random((rows, 64), 4), _random((rows, 64), 5)
    positions = torch.arange(rows, dtype=torch.int32)
    slots = torch.where(positions % 3 == 2, -1, positions * BLOCK + 5).to(torch.int32)

    def rotate(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        q, k = given[0].clone(), given[1].clone()
        backend.rotate(q, k, given[2], given[3].float(), given[4].float())
        return torch.cat([q.flatten(), k.flatten()])

    yield Case(f"rotate {rows} tokens", (q, k, positions, *angles), rotate)
    for kept in (None, torch.float16, torch.bfloat16, torch.float32):
        stored = "" if kept is None else f", cache in {_short(kept)}"
        inputs = (q, k, v, positions, *angles, caches, slots)
        yield Case(f"store_kv, {rows} tokens{stored}", (k, v, caches, slots), _store(kept))
        yield Case(f"rotate_and_store, {rows} tokens{stored}", inputs, _rotate_and_store(kept), kept)


def _store(kept: torch.dtype | None) -> Call:
    def call(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        k_cache, v_cache = (torch.zeros_like(given[2], dtype=kept) for _ in range(2))
        backend.store_kv(given[0], given[1], k_cache, v_cache, _slots_alone(given[3]))
        return torch.cat([k_cache, v_cache])

    return call


def _rotate_and_store(kept: torch.dtype | None) -> Call:
    def call(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        q, k, v, positions, cos, sin, caches, slots = given
        q, k_cache, v_cache = q.clone(), torch.zeros_like(caches, dtype=kept), torch.zeros_like(caches, dtype=kept)
        batch = _slots_alone(slots)
        backend.rotate_and_store(q, k.clone(), v, positions, cos.float(), sin.float(), k_cache, v_cache, batch)
        return torch.cat([each.flatten().float() for each in (q, k_cache, v_cache)])

    return call


def _slots_alone(slots: torch.Tensor) -> AttentionBatch:
    """What storing looks at; of the rest it has no use."""
    return AttentionBatch(slots, slots, slots[:, None], slots)


def attention_case(
    q_heads: int,
    kv_heads: int,
    head_dim: int,
    lengths: Sequence[int],
    window: int | None,
    queries: int = 1,
    *,
    kept: torch.dtype | None = None,
    places: bool = False,
) -> Case:
    """The last tokens, `queries` of each, of sequences of these lengths, over a cache of scattered blocks.

    Args:
        q_heads: of queries.
        kv_heads: of keys and values.
        head_dim: features of a head.
        lengths: of the sequences.
        window: positions that a token sees, or None for all.
        queries: tokens of each sequence.
        kept: type of the cache; None for that of activations.
        places: whether results go to places of another order.
    """
    generator = torch.Generator().manual_seed(q_heads)
    width, tokens = -(-max(lengths) // BLOCK), queries * len(lengths)
    blocks = width * len(lengths)
    tables = torch.randperm(blocks, generator=generator).to(torch.int32).reshape(len(lengths), width)
    shape = (blocks, kv_heads, BLOCK, head_dim)
    inputs = (
        torch.randn(tokens, q_heads, head_dim, generator=generator),
        torch.randn(shape, generator=generator),
        torch.randn(shape, generator=generator),
        torch.arange(0, tokens + 1, queries, dtype=torch.int32),
        torch.tensor(lengths, dtype=torch.int32),
        tables,
        torch.full((tokens,), -1, dtype=torch.int32),  # as many slots as tokens; attention stores nothing
        permutation(q_heads * head_dim),
    )

    def call(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        q, keys, values, starts, lens, tables, slots, order = given
        out = torch.empty_like(q)
        batch = AttentionBatch(starts, lens, tables, slots)
        where = order if places else None
        keys, values = _as(kept, keys), _as(kept, values)
        backend.paged_attention(q, keys, values, batch, head_dim**-0.5, window, out, where)
        return out

    stored = "" if kept is None else f", cache in {_short(kept)}"
    which = f"{queries} tokens of {list(lengths)}, window {window}{stored}{', to places' if places else ''}"
    return Case(f"attention {q_heads}/{kv_heads} heads of {head_dim}, {which}", inputs, call)


def attention_cases(long: int, prompt: int) -> Iterator[Case]:
    """Decode steps and prompts of every instance of the kernels, windows, caches of other types, results to places."""
    for queries in (1, 17):
        yield attention_case(8, 2, 128, [17, long, 129], None, queries)
        yield attention_case(8, 2, 128, [17, long, 129], None, queries, places=True)
        for kept in (torch.float16, torch.bfloat16, torch.float32):
            yield attention_case(8, 2, 128, [17, 150], None, queries, kept=kept)
        yield attention_case(4, 2, 128, [17, 150], 40, queries, kept=torch.float32, places=True)
    yield attention_case(4, 4, 64, [1, long], None)
    yield attention_case(7, 1, 96, [long], 140)
    yield attention_case(16, 1, 256, [200], None)
    yield attention_case(7, 1, 96, [long], 140, queries=prompt)
    yield attention_case(16, 1, 256, [max(200, prompt)], None, queries=prompt)


def dense_case(rows: int, in_features: int, out_features: int, *, bias: bool) -> Case:
    """The product with a plain matrix."""
    shapes = (rows, in_features), (out_features, in_features), (out_features,)

    def call(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        out = torch.empty(rows, out_features, dtype=given[0].dtype, device=given[0].device)
        backend.prepare_dense(given[1], given[2] if bias else None)(given[0], out)
        return out

    name = f"plain matrix {in_features} to {out_features}{' with a bias' if bias else ''}, {rows} rows"
    return Case(name, tuple(_random(shape, index) for index, shape in enumerate(shapes)), call)


def _random(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _as(kept: torch.dtype | None, tensor: torch.Tensor) -> torch.Tensor:
    return tensor if kept is None else tensor.to(kept)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
