"""A toy model for runners on a late device: the next token is a function of all before it, as they stand in the cache.

Written in operations of torch that may be recorded: nothing waits, nothing comes from the host. Its keys are the
tokens. Whatever goes wrong with a block, a slot, a table or a copy changes tokens, as it would with a real model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from engine.cache.kv_format import KVFormat
from engine.cache.paged_kv_cache import PagedKVCache
from engine.execution.paged_attention import PagedAttention
from engine.model.config import ModelConfig
from engine.model.forward_batch import ForwardBatch
from engine.ops.torch_backend import TorchBackend

KV_FORMAT = KVFormat(num_layers=1, num_kv_heads=1, head_dim=1, dtype=torch.float32)


@dataclass
class ToyDeviceModel:
    """What runners use of a `Transformer`.

    Attributes:
        config: of a real, tiny model; only its vocabulary counts.
        backend: only says where tensors are.
    """

    config: ModelConfig
    backend: TorchBackend
    latest: tuple[ForwardBatch, PagedAttention] = field(init=False)

    def compute(self, batch: ForwardBatch, attention: PagedAttention) -> torch.Tensor:
        """Logits of the tokens that are asked for."""
        self.latest = batch, attention
        return self._logits(batch, attention)

    def _logits(self, batch: ForwardBatch, attention: PagedAttention) -> torch.Tensor:
        """Logits, float32 [L, V], of a hash of each row's tokens."""
        keys, where = attention.cache.keys(0), attention.batch
        size = attention.cache.block_size
        # a slot of -1 is nowhere: such tokens go to a row behind the cache's
        known = torch.cat([keys.view(-1), torch.zeros(1)])
        slots = torch.where(where.slots >= 0, where.slots, len(known) - 1).long()
        known = known.index_put((slots,), batch.token_ids.float())
        keys.view(-1).copy_(known[:-1])
        rows = batch.logit_rows.long()
        sequences = torch.searchsorted(where.query_start, batch.logit_rows, right=True, out_int32=True) - 1
        sequences = sequences.clamp(max=len(where.context_lens) - 1).long()
        width = where.block_tables.shape[1] * size
        places = torch.arange(width)
        past_slots = where.block_tables[sequences][:, places // size].long() * size + places % size
        past = known[past_slots]
        seen = places[None] <= batch.positions[rows][:, None]
        weights = torch.remainder(places * 7919 + 13, 101).float()
        totals = (torch.where(seen, past * weights, 0.0)).sum(1)
        vocab = torch.arange(self.config.vocab_size)
        mixed = torch.remainder(totals[:, None].long() * 31 + vocab * vocab * 17 + vocab * 5, 97)
        return mixed.float() / 8

    def logits_at(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits of further tokens of the latest step."""
        batch, attention = self.latest
        return self._logits(replace(batch, logit_rows=rows), attention)

    def states_at(self, rows: torch.Tensor) -> torch.Tensor:
        """Made of the logits of the same tokens."""
        return self.logits_at(rows)[:, : self.config.hidden_size]

    def forward(self, batch: ForwardBatch, attention: PagedAttention) -> torch.Tensor:
        """The same, for the runner on the host."""
        return self.compute(batch, attention)

    def warm_up(self, batch: ForwardBatch, attention: PagedAttention) -> torch.Tensor:
        """The same."""
        return self.compute(batch, attention)


@dataclass
class ToyLoaded:
    """What runners use of a `LoadedModel`."""

    model: ToyDeviceModel
    config: ModelConfig


def toy_cache(num_blocks: int, block_size: int) -> PagedKVCache:
    """A cache for the toy."""
    return PagedKVCache(KV_FORMAT, num_blocks, block_size, torch.device("cpu"))
