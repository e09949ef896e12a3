"""The decoder as its users see it: pieces, replaceable kernels, and memory that is allocated once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.errors import KernelArgumentError
from engine.model.attention_protocol import AttentionSpec, Rotation
from engine.model.forward_batch import ForwardBatch
from engine.model.full_attention import FullAttention
from engine.model.loader import load_model
from engine.model.transformer import Transformer
from engine.model.workspace import Workspace
from engine.ops.backend import LinearKernel
from engine.ops.torch_backend import TorchBackend
from tests.engine.model.exl2_directory import write_random_exl2_llama

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exl2")
    write_random_exl2_llama(path, hidden=32, layers=2, vocab=50)
    return path


@pytest.fixture
def model(directory: Path) -> Transformer:
    return load_model(directory, TorchBackend(), max_tokens=16).model


def batch_of(tokens: int, rows: int, seed: int = 0) -> ForwardBatch:
    ids = torch.randint(50, (tokens,), generator=torch.Generator().manual_seed(seed), dtype=torch.int32)
    positions = torch.arange(tokens, dtype=torch.int32)
    return ForwardBatch(ids, positions, positions[tokens - rows :])


def test_pieces_compose_to_forward(model: Transformer) -> None:
    batch = batch_of(12, 12)
    expected = model.forward(batch, FullAttention([12])).clone()
    x = model.embed(batch.token_ids)
    for layer in model.layers:
        layer.forward(x, batch.positions, FullAttention([12]))
    before = x.clone()
    assert torch.equal(model.logits(x), expected)
    assert torch.equal(x, before)
    normed, logits = torch.empty_like(x), torch.empty(12, 50)
    model.final_norm.forward(x, normed)
    model.head.forward(normed, logits)
    assert torch.equal(logits, expected)


def test_more_may_be_asked_of_the_latest_step(model: Transformer) -> None:
    whole = model.forward(batch_of(12, 12), FullAttention([12])).clone()
    last = model.forward(batch_of(12, 1), FullAttention([12])).clone()
    rows = torch.tensor([0, 5, 11], dtype=torch.int32)

    logits = model.logits_at(rows).clone()
    states = model.states_at(rows).clone()

    assert torch.allclose(logits, whole[rows], atol=1e-5)
    assert torch.allclose(last, whole[-1:], atol=1e-5)
    projected = torch.empty(3, 50)
    model.head.forward(states, projected)
    assert torch.equal(projected, logits)
    assert torch.equal(model.logits_at(rows), logits)  # nothing of the step was lost


def test_embedded_tokens_do_not_share_memory(model: Transformer) -> None:
    first = model.embed(batch_of(4, 1, seed=1).token_ids)
    copy = first.clone()
    model.embed(batch_of(4, 1, seed=2).token_ids)
    assert torch.equal(first, copy)


def test_linears_have_the_names_of_the_checkpoint(model: Transformer) -> None:
    names = [name for name, _ in model.linears()]
    layer = [f"self_attn.{each}_proj" for each in "qkvo"] + [f"mlp.{each}_proj" for each in ("gate", "up", "down")]
    assert names == [f"model.layers.{index}.{each}" for index in range(2) for each in layer] + ["lm_head"]
    found = dict(model.linears())
    assert found["model.layers.1.self_attn.k_proj"] is model.layers[1].attention.k_proj
    assert found["model.layers.0.mlp.down_proj"] is model.layers[0].mlp.down_proj
    assert (found["lm_head"].in_features, found["lm_head"].out_features) == (32, 50)


class Recorder:
    """Notes the inputs of another kernel."""

    def __init__(self, inner: LinearKernel) -> None:
        self._inner = inner
        self.inputs: list[torch.Tensor] = []

    @property
    def in_features(self) -> int:
        return self._inner.in_features

    @property
    def out_features(self) -> int:
        return self._inner.out_features

    @property
    def nbytes(self) -> int:
        return self._inner.nbytes

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> None:
        self.inputs.append(x.clone())
        self._inner(x, out)


def test_kernels_can_be_replaced(model: Transformer) -> None:
    batch = batch_of(5, 1)
    expected = model.forward(batch, FullAttention([5])).clone()
    recorders = {}
    for name, linear in model.linears():
        linear.kernel = recorders[name] = Recorder(linear.kernel)
    assert torch.equal(model.forward(batch, FullAttention([5])), expected)
    shapes = {name: [tuple(x.shape) for x in recorder.inputs] for name, recorder in recorders.items()}
    assert shapes.pop("lm_head") == [(1, 32)]
    assert shapes["model.layers.0.mlp.down_proj"] == [(5, 64)]
    assert all(len(each) == 1 for each in shapes.values())


class FirstTensors:
    """`FullAttention` that notes where its tensors live."""

    def __init__(self, length: int) -> None:
        self._inner = FullAttention([length])
        self.pointers: set[tuple[int, int, int, int]] = set()

    def attend(
        self,
        layer: int,
        spec: AttentionSpec,
        rotation: Rotation,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        places: torch.Tensor | None = None,
    ) -> None:
        self.pointers.add((q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr()))
        self._inner.attend(layer, spec, rotation, q, k, v, out, places)


def test_nothing_is_allocated_after_the_largest_step(model: Transformer) -> None:
    pointers, logits = set(), set()
    for tokens, rows in ((16, 4), (3, 1), (16, 4), (9, 2)):
        attention = FirstTensors(tokens)
        logits.add(model.forward(batch_of(tokens, rows), attention).data_ptr())
        pointers |= attention.pointers
    assert len(pointers) == 1
    assert len(logits) == 1


def test_more_tokens_than_reserved_still_work(model: Transformer, directory: Path) -> None:
    roomy = load_model(directory, TorchBackend(), max_tokens=64).model
    batch = batch_of(40, 40)
    expected = roomy.forward(batch, FullAttention([40]))
    assert torch.equal(model.forward(batch, FullAttention([40])), expected)


def test_sequences_of_one_pass_do_not_see_each_other(model: Transformer) -> None:
    parts = [batch_of(length, length, seed=length) for length in (6, 9)]
    alone = [model.forward(part, FullAttention([len(part.token_ids)])).clone() for part in parts]
    ids, positions = (torch.cat([getattr(p, name) for p in parts]) for name in ("token_ids", "positions"))
    joint = model.forward(ForwardBatch(ids, positions, torch.arange(15, dtype=torch.int32)), FullAttention([6, 9]))
    torch.testing.assert_close(joint, torch.cat(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("ids", "positions", "rows", "message"),
    [
        ([1, 50], [0, 1], [1], "token_ids holds 50; it must lie within 0 and 49"),
        ([-1, 1], [0, 1], [1], "token_ids holds -1"),
        ([1, 2], [0, 24], [1], "positions holds 24; it must lie within 0 and 23"),
        ([1, 2], [-1, 0], [1], "positions holds -1"),
        ([1, 2], [0, 1], [2], "logit_rows holds 2"),
    ],
)
def test_what_would_be_read_from_beyond_a_table_is_refused(
    ids: list[int], positions: list[int], rows: list[int], message: str, directory: Path
) -> None:
    model = load_model(directory, TorchBackend(), max_positions=24).model
    batch = ForwardBatch(*(torch.tensor(each, dtype=torch.int32) for each in (ids, positions, rows)))
    with pytest.raises(KernelArgumentError, match=message):
        model.forward(batch, FullAttention([2]))


def test_a_sequence_longer_than_the_rotary_tables_is_refused(directory: Path) -> None:
    model = load_model(directory, TorchBackend(), max_positions=24).model
    assert model.embed(batch_of(24, 1).token_ids).shape == (24, 32)
    with pytest.raises(KernelArgumentError, match="positions holds 24"):
        model.embed(batch_of(25, 1).token_ids)
    with pytest.raises(KernelArgumentError, match="token_ids holds 50"):
        model.embed(torch.tensor([50], dtype=torch.int32))


def test_half_precision_activations_give_float32_logits(directory: Path, model: Transformer) -> None:
    half = load_model(directory, TorchBackend(activation_dtype=torch.bfloat16)).model
    batch = batch_of(8, 3)
    logits = half.forward(batch, FullAttention([8]))
    assert logits.dtype == torch.float32
    expected = model.forward(batch, FullAttention([8]))
    assert float((logits - expected).abs().max()) < 0.1 * float(expected.std())


def test_workspace_grows_and_keeps_its_largest_buffer() -> None:
    workspace = Workspace(CPU, torch.float32, rows=4)
    first = workspace.get("a", 2, 3)
    assert (tuple(first.shape), first.is_contiguous()) == ((2, 3), True)
    assert workspace.get("a", 4, 3).data_ptr() == first.data_ptr()
    grown = workspace.get("a", 5, 3)
    assert workspace.get("a", 1, 3).data_ptr() == grown.data_ptr()
    assert workspace.get("b", 1, 3, torch.float16).dtype == torch.float16
    assert workspace.nbytes == 5 * 3 * 4 + 4 * 3 * 2
