"""How the decoder asks for attention without knowing where keys and values are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """What of a layer's attention is fixed by the model.

    Attributes:
        scale: factor on q·k, usually head_dim ** -0.5.
        window: number of latest positions a token sees, itself included; None for all.
    """

    scale: float
    window: int | None


class Attention(Protocol):
    """Attention over whatever the caller keeps: a paged cache when serving, whole sequences when quantizing."""

    def attend(
        self, layer: int, spec: AttentionSpec, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor
    ) -> None:
        """Remember k and v [T, Hkv, D] for `layer` and write causal attention of q [T, Hq, D] to out [T, Hq, D].

        q and k carry their rotary embedding already.
        """
        ...
