"""What the tensors of a checkpoint are called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CheckpointNames:
    """Names of modules, without the `.weight`, `.bias`, … of their tensors. The defaults are those of Llama.

    Names of a layer's modules are relative to `layer`, which is formatted with the layer's index.
    """

    embedding: str = "model.embed_tokens"
    layer: str = "model.layers.{index}"
    input_norm: str = "input_layernorm"
    q_proj: str = "self_attn.q_proj"
    k_proj: str = "self_attn.k_proj"
    v_proj: str = "self_attn.v_proj"
    o_proj: str = "self_attn.o_proj"
    q_norm: str = "self_attn.q_norm"
    k_norm: str = "self_attn.k_norm"
    post_attention_norm: str = "post_attention_layernorm"
    gate_proj: str = "mlp.gate_proj"
    up_proj: str = "mlp.up_proj"
    down_proj: str = "mlp.down_proj"
    final_norm: str = "model.norm"
    head: str = "lm_head"

    def in_layer(self, index: int, module: str) -> str:
        """Full name of a module of layer `index`."""
        return f"{self.layer.format(index=index)}.{module}"
