"""Products with a weight, and tables."""

from __future__ import annotations

from torch import nn

from gradaudit.onnx_graph.layers._made import Asked, Layer, layer


@layer("Gemm")
def _gemm(asked: Asked) -> Layer | None:
    weight, keywords = asked.parameter(1), asked.keywords
    scaled = keywords.get("alpha", 1.0) != 1.0 or keywords.get("beta", 1.0) != 1.0
    if weight is None or weight.dim() != 2 or scaled or keywords.get("transA", 0):
        return None
    return _dense(asked, weight, inputs_first=not keywords.get("transB", 0))


@layer("MatMul")
@layer("BiasedMatMul", "gradaudit")
def _matmul(asked: Asked) -> Layer | None:
    weight = asked.parameter(1)
    if weight is None or weight.dim() != 2:
        return None
    return _dense(asked, weight, inputs_first=True)


@layer("Dense", "gradaudit")
def _linear(asked: Asked) -> Layer | None:
    weight = asked.parameter(1)
    return None if weight is None else _dense(asked, weight, inputs_first=False)


def _dense(asked: Asked, weight: nn.Parameter, *, inputs_first: bool) -> Layer | None:
    bias = asked.parameter(2)
    if bias is None and not asked.missing(2):
        return None
    inputs, outputs = weight.shape if inputs_first else weight.shape[::-1]
    if not inputs_first:
        sizes = {"in_features": inputs, "out_features": outputs}
        return Layer(nn.Linear, ("", "weight", "bias"), sizes)
    return Layer(nn.Module, ("", "weight", "bias"), {"inputs_first": True})


@layer("Gather")
def _embedding(asked: Asked) -> Layer | None:
    table = asked.parameter(0)
    if table is None or table.dim() != 2 or asked.keywords.get("axis", 0) != 0:
        return None
    sizes = {"num_embeddings": table.shape[0], "embedding_dim": table.shape[1]}
    options = {"padding_idx": None, "max_norm": None, "norm_type": 2.0, "sparse": False}
    return Layer(nn.Embedding, ("weight", ""), {**sizes, **options, "scale_grad_by_freq": False})
