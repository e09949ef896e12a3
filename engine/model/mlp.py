"""The feed-forward half of a decoder layer."""

from __future__ import annotations

import torch

from engine.model.linear import Linear, LinearGroup
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
        self._inputs = LinearGroup(backend, (gate_proj, up_proj))
        self._output = LinearGroup(backend, (down_proj,))

    @property
    def linears(self) -> tuple[Linear, ...]:
        """Its matrices, in the order of computation."""
        return (self.gate_proj, self.up_proj, self.down_proj)

    @property
    def groups(self) -> tuple[LinearGroup, ...]:
        """Its matrices by their inputs."""
        return (self._inputs, self._output)

    @property
    def input_order(self) -> torch.Tensor | None:
        """The order in which `forward` takes the features of x; None for their own."""
        return self._inputs.input_order

    def forward(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """x and out [T, H], features of x in `input_order`."""
        tokens = x.shape[0]
        gate = self._workspace.get("gate", tokens, self.gate_proj.out_features)
        up = self._workspace.get("up", tokens, self.up_proj.out_features)
        self._inputs.forward(x, (gate, up))
        order = self._output.input_order
        gated = gate if order is None else self._workspace.get("gated", *gate.shape)
        self._backend.silu_mul(gate, up, gated, order)
        self._output.forward(gated, (out,))
