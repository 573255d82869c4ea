"""Normalisation with constant scales."""

from __future__ import annotations

from torch import nn

from gradaudit.onnx_graph.layers._made import Asked, Layer, layer


@layer("BatchNormalization")
def _batch_norm(asked: Asked) -> Layer | None:
    scale = asked.parameter(1)
    if scale is None or any(asked.parameter(i) is None for i in (2, 3, 4)):
        return None
    attributes = {
        "num_features": scale.numel(),
        "eps": asked.keywords.get("epsilon", 1e-5),
        "momentum": 1 - asked.keywords.get("momentum", 0.9),
        "affine": True,
        "track_running_stats": True,
        "training": bool(asked.keywords.get("training_mode", 0)),
    }
    leaves = ("", "weight", "bias", "running_mean", "running_var")
    return Layer(nn.BatchNorm2d, leaves, attributes)


@layer("InstanceNormalization")
def _instance_norm(asked: Asked) -> Layer | None:
    scale = asked.parameter(1)
    if scale is None or asked.parameter(2) is None:
        return None
    attributes = {
        "num_features": scale.numel(),
        "eps": asked.keywords.get("epsilon", 1e-5),
        "affine": True,
        "track_running_stats": False,
        "running_mean": None,
        "running_var": None,
    }
    return Layer(nn.InstanceNorm2d, ("", "weight", "bias"), attributes)


@layer("LayerNormalization")
@layer("LayerNormalization", "com.microsoft")
def _layer_norm(asked: Asked) -> Layer | None:
    return _last_axis_norm(asked, nn.LayerNorm)


@layer("RMSNormalization")
@layer("SimplifiedLayerNormalization")
@layer("SimplifiedLayerNormalization", "com.microsoft")
def _rms_norm(asked: Asked) -> Layer | None:
    return _last_axis_norm(asked, nn.RMSNorm)


def _last_axis_norm(asked: Asked, base: type[nn.Module]) -> Layer | None:
    scale = asked.parameter(1)
    if scale is None or (asked.parameter(2) is None and not asked.missing(2)):
        return None
    attributes = {
        "normalized_shape": tuple(scale.shape),
        "eps": asked.keywords.get("epsilon", 1e-5),
        "elementwise_affine": True,
    }
    return Layer(base, ("", "weight", "bias"), attributes)


@layer("GroupNormalization")
def _group_norm(asked: Asked) -> Layer | None:
    scale = asked.parameter(1)
    if scale is None or asked.parameter(2) is None:
        return None
    attributes = {
        "num_groups": asked.keywords.get("num_groups", 1),
        "num_channels": scale.numel(),
        "eps": asked.keywords.get("epsilon", 1e-5),
        "affine": True,
    }
    return Layer(nn.GroupNorm, ("", "weight", "bias"), attributes)
