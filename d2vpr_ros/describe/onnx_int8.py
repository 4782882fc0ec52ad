"""Eight bits where the processor is faster with them: the products of the backbone and of the projection by weights.

Weights are scaled channel by channel, activations image by image as they come (ONNX Runtime's dynamic quantisation).
"""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from d2vpr_ros.describe.onnx_half import takes_half


def quantise(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The graph with 8-bit products; `path` is written to on the way."""
    constants = {constant.name for constant in model.graph.initializer}
    products = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and takes_half(node.name) and node.input[1] in constants
    ]
    # Unsigned weights: products of signed ones overflow 16 bits on processors without VNNI.
    logging.disable(logging.WARNING)  # it advises steps that the export has done
    try:
        quantize_dynamic(
            model, path, op_types_to_quantize=["MatMul"], nodes_to_quantize=products,
            per_channel=True, weight_type=QuantType.QUInt8,
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(str(path))
