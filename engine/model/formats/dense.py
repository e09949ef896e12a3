"""Plain matrices, float16, bfloat16 or float32, stored [out, in] as Hugging Face checkpoints do."""

from __future__ import annotations

from collections.abc import Sequence

from engine.model.checkpoint import Checkpoint
from engine.model.formats.base import (
    FLOAT_DTYPES,
    BuiltLinear,
    LinearShape,
    TensorRule,
    dtype_name,
    layer_tensors,
    read_bias,
    read_tensor,
    tensor_shape,
)
from engine.ops.backend import Backend
from engine.ops.backend_memory import BackendMemory

WEIGHT = TensorRule("weight", FLOAT_DTYPES, 2)


class DenseFormat:
    """`P.weight` [N, K] and, where the layer has one, `P.bias` [N]."""

    name = "dense"

    def detect(self, checkpoint: Checkpoint, prefix: str) -> bool:
        """Whether there is a floating-point `P.weight`."""
        name = f"{prefix}.weight"
        return name in checkpoint and checkpoint.dtype(name) in FLOAT_DTYPES

    def tensor_names(self, checkpoint: Checkpoint, prefix: str) -> tuple[str, ...]:
        """The weight, and the bias if there is one."""
        return layer_tensors(checkpoint, prefix, ("weight", "bias"))

    def build(self, checkpoint: Checkpoint, shape: LinearShape, backend: Backend) -> BuiltLinear:
        """Read and prepare the layer. Its shape must be exactly the one the model definition asks for.

        Raises:
            CheckpointError: a tensor is missing, has another shape or element type, or an entry that is not finite.
        """
        name = f"{shape.prefix}.weight"
        weight = read_tensor(checkpoint, shape.prefix, WEIGHT)
        if tuple(weight.shape) != (shape.out_features, shape.in_features):
            raise checkpoint.error(
                name,
                f"its shape is {list(weight.shape)}, config.json asks for "
                f"{[shape.out_features, shape.in_features]} (outputs, inputs)",
            )
        bias = read_bias(checkpoint, shape, shape.out_features)
        if shape.prescale != 1.0:
            weight = (weight.float() * shape.prescale).to(weight.dtype)
        return BuiltLinear(
            kernel=backend.prepare_dense(weight, bias),
            format=dtype_name(weight.dtype),
            stored_bits=weight.numel() * weight.element_size() * 8,
            weights=shape.weights,
        )

    def prepared_bytes(self, checkpoint: Checkpoint, shape: LinearShape, memory: BackendMemory) -> int:
        """What the backend will keep of the matrix and its bias.

        Raises:
            CheckpointError: there is no such matrix, or it is none.
        """
        outputs, inputs = tensor_shape(checkpoint, shape.prefix, WEIGHT)
        return memory.dense(inputs, outputs, checkpoint.dtype(f"{shape.prefix}.weight"), shape.bias)

    def group_bytes(
        self,
        checkpoint: Checkpoint,  # noqa: ARG002
        shapes: Sequence[LinearShape],  # noqa: ARG002
        memory: BackendMemory,  # noqa: ARG002
    ) -> int:
        """Nothing: no backend groups plain matrices."""
        return 0
