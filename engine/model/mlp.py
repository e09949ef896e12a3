"""The feed-forward half of a decoder layer."""

from __future__ import annotations

import torch

from engine.model.linear import Linear
from engine.model.workspace import Workspace
from engine.ops.backend import Backend


class GatedMLP:
    """`down(silu(gate(x)) * up(x))`."""

    def __init__(
        self, backend: Backend, workspace: Workspace, gate_proj: Linear, up_proj: Linear, down_proj: Linear
    ) -> None:
        self._backend = backend
        self._workspace = workspace
        self.gate_proj = gate_proj
        self.up_proj = up_proj
        self.down_proj = down_proj

    @property
    def linears(self) -> tuple[Linear, ...]:
        """Its matrices, in the order of computation."""
        return (self.gate_proj, self.up_proj, self.down_proj)

    def forward(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """x and out [T, H]."""
        tokens = x.shape[0]
        gate = self._workspace.get("gate", tokens, self.gate_proj.out_features)
        up = self._workspace.get("up", tokens, self.up_proj.out_features)
        self.gate_proj.forward(x, gate)
        self.up_proj.forward(x, up)
        self._backend.silu_mul(gate, up, gate)
        self.down_proj.forward(gate, out)
