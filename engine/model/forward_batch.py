"""The input of one forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class ForwardBatch:
    """Tokens of all sequences of a step, one after the other. All int32, on the backend's device.

    Attributes:
        token_ids: [T].
        positions: [T] position of each token in its own sequence.
        logit_rows: [L] rows whose logits are wanted, ascending.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    logit_rows: torch.Tensor
