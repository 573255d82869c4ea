"""The exact list of what a pickled module made of torch's own layers may ask for.

Everything is named one by one: the classes by walking ``torch.nn.modules``, the rest by hand. None
of it runs code of the file's choosing; layers can only be built of these parts. Plain data beside
them is read as stand-ins, see :mod:`gradaudit.subject.formats.pickles.holders`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from gradaudit.subject.formats.pickles.holders import holder_classes

GETATTR = "builtins.getattr"
TORCH_FUNCTIONS = "torch._C._VariableFunctionsClass"

# Elementwise functions that people hand to layers as activation=...; pickled by these names.
_FUNCTIONAL = (
    "relu",
    "relu_",
    "relu6",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "leaky_relu",
    "prelu",
    "rrelu",
    "glu",
    "softplus",
    "softsign",
    "tanh",
    "tanhshrink",
    "sigmoid",
    "logsigmoid",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "hardshrink",
    "softshrink",
    "threshold",
    "_threshold",
    "softmax",
    "log_softmax",
    "softmin",
    "normalize",
    "dropout",
    "layer_norm",
)
_C_NN = (
    "gelu",
    "silu",
    "mish",
    "softplus",
    "log_sigmoid",
    "elu_",
    "leaky_relu",
    "hardtanh",
    "hardswish",
    "softshrink",
)
# torch.relu is pickled as getattr(torch._C._VariableFunctionsClass, "relu").
ACTIVATIONS = frozenset(
    (
        "relu",
        "relu_",
        "tanh",
        "tanh_",
        "sigmoid",
        "sigmoid_",
        "selu",
        "selu_",
        "celu",
        "rrelu",
        "prelu",
        "sin",
        "cos",
        "exp",
        "erf",
        "square",
        "abs",
        "softmax",
        "log_softmax",
        "hardshrink",
        "sinc",
    )
)
# What a sound pickle calls; layers are made by cls.__new__(cls) and never called.
CALLABLE = frozenset(
    {
        "_codecs.encode",
        "builtins.getattr",
        "builtins.set",
        "builtins.complex",
        "builtins.frozenset",
        "builtins.slice",
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Buffer",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch._tensor._rebuild_from_type_v2",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._utils._rebuild_qtensor",
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        *holder_classes(),
    }
)
_PLACES = {
    "torch.nn.utils.spectral_norm": (
        "SpectralNorm",
        "SpectralNormStateDictHook",
        "SpectralNormLoadStateDictPreHook",
    ),
    "torch.nn.utils.weight_norm": ("WeightNorm",),
    "torch.nn.parallel.data_parallel": ("DataParallel",),
    "torch.nn.modules.module": ("_WrappedHook",),
    "torch.nn.parameter": ("Buffer",),
    "torch.nn.functional": tuple(_FUNCTIONAL),
    "torch._C._nn": tuple(_C_NN),
    "collections": ("OrderedDict",),
    "builtins": ("set", "frozenset", "slice"),
}


@cache
def module_classes() -> dict[str, type[nn.Module]]:
    """Every layer class that torch itself defines under ``torch.nn.modules``, by full name."""
    found: dict[str, type[nn.Module]] = {}
    for info in pkgutil.iter_modules(nn.modules.__path__, "torch.nn.modules."):
        for cls in vars(importlib.import_module(info.name)).values():
            if inspect.isclass(cls) and issubclass(cls, nn.Module) and cls.__module__ == info.name:
                found[f"{info.name}.{cls.__qualname__}"] = cls
    return found


@cache
def allowed_globals() -> dict[str, Any]:
    """Full pickled name -> object, beyond what torch allows under ``weights_only=True`` itself."""
    found: dict[str, Any] = {**module_classes(), **holder_classes()}
    for place, names in _PLACES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            home = importlib.import_module(place)
        for name in names:
            if hasattr(home, name):  # some came or went between torch versions
                found[f"{place}.{name}"] = getattr(home, name)
    found[TORCH_FUNCTIONS] = torch._C._VariableFunctionsClass  # type: ignore[attr-defined]
    found[GETATTR] = activation
    return found


def activation(owner: Any, name: str) -> Callable[..., Any]:
    """Stand in for ``getattr`` in a pickle: gives torch's own activation functions only."""
    is_torch = owner is torch._C._VariableFunctionsClass  # type: ignore[attr-defined]
    if not is_torch or name not in ACTIVATIONS:
        raise ValueError(f"getattr({owner!r}, {name!r}) is not allowed in a pickle")
    return getattr(owner, name)
