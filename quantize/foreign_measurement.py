"""Reading the measurement files of ExLlamaV2's converter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import QuantizationError
from engine.model.formats.base import LinearShape
from engine.ops.exl2 import layout_bits
from quantize.exl2.allocate import Choices
from quantize.exl2.candidate_sets import ATTENTION, MLP
from quantize.exl2.candidates import Option, lower_hull
from quantize.exl2.layout import WidthShare, group_layout

MODULES = {"self_attn": ATTENTION, "mlp": MLP}
"""Matrices that ExLlamaV2 chooses together, by the block they are part of."""


def choices_from_exllamav2(path: Path, content: Mapping[str, Any], shapes: Mapping[str, LinearShape]) -> list[Choices]:
    """The options of such a file, one of `Choices` per block.

    ExLlamaV2 measures the relative error of a block's output, with the recipe of its own; the sum of these stands for
    what the options do to the model.

    Args:
        path: of the file, for messages.
        content: of it.
        shapes: of the model's matrices by name, in model order.

    Raises:
        QuantizationError: the file is damaged, or of another model.
    """
    blocks = list(dict.fromkeys(name.rpartition(".")[0] for name in shapes if "." in name))
    try:
        return [_block(block, content["measurement"][block], shapes) for block in blocks]
    except KeyError as error:
        raise QuantizationError(f"{path} says nothing of {error}; it is of another model, or damaged.") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise QuantizationError(f"{path} is not a measurement by ExLlamaV2: {error}.") from None


def _block(block: str, options: Any, shapes: Mapping[str, LinearShape]) -> Choices:
    modules = MODULES[block.rpartition(".")[2]]
    names = tuple(f"{block}.{module}" for module in modules)
    found = []
    for each in options:
        layouts = tuple(
            group_layout(shapes[name].in_features, _shares(each[module]))
            for name, module in zip(names, modules, strict=True)
        )
        bits = sum(layout_bits(layout, shapes[name].out_features) for layout, name in zip(layouts, names, strict=True))
        found.append(Option(layouts, bits, 1.0 - float(each["accuracy"])))
    return Choices(names, sum(shapes[name].weights for name in names), lower_hull(found))


def _shares(parameters: Any) -> tuple[WidthShare, ...]:
    sizes = parameters["group_size"]
    pairs = zip(parameters["bits"], parameters["bits_prop"], strict=True)
    return tuple(WidthShare(int(bits), float(share), int(sizes[str(bits)])) for bits, share in pairs)
