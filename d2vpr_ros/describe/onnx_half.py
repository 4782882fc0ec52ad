"""Half precision where it costs nothing: the matrix products of the backbone and of the projection.

Their inputs are cast before and their results behind, so the graph is strongly typed: LayerNorm, softmax, residual
sums, the aggregator with its sampling grids and pooling, and normalisations stay float32 whatever runs them.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

_PRODUCTS = ("MatMul", "Gemm", "Conv")


def halve(model: onnx.ModelProto) -> None:
    """Rewrite an exported graph in place."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    halved: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type not in _PRODUCTS or not takes_half(node.name):
            nodes.append(node)
            continue
        for number, name in enumerate(node.input):
            if name not in halved:
                halved[name] = f"{name}.half"
                if name in constants:
                    values = numpy_helper.to_array(constants[name]).astype(np.float16)
                    model.graph.initializer.append(numpy_helper.from_array(values, halved[name]))
                else:
                    nodes.append(_cast(name, halved[name], onnx.TensorProto.FLOAT16))
            node.input[number] = halved[name]
        result = node.output[0]
        node.output[0] = f"{result}.product"
        nodes += [node, _cast(node.output[0], result, onnx.TensorProto.FLOAT)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [constant for constant in model.graph.initializer if constant.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def takes_half(name: str) -> bool:
    """Whether a product, named by the modules it is in, is one of the backbone's or the projection."""
    return name.startswith("/network/backbone/") or name.count("/") == 1


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=kind)
