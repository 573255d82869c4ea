"""A net's gradients against those of the graph it was exported as, parameter by parameter.

Exporters rename, transpose, split and stack parameters, reorder the gates of recurrent ones, and
make one of equal ones. So entries are matched by their value: the gradients of all the net's
entries of one value must sum up to those of all the graph's. Where a net's parameters are drawn,
hardly a value occurs twice, and that is a comparison entry by entry.

Batch norm that evaluates may have been folded into the convolution before it. Then the graph's
gradient is taken back through the folding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

FLOOR = 1e-3  # of all gradients' norm: a gradient below it is measured against this
_CLOSE = 1e-5

Pair = tuple[Tensor, Tensor]  # the graph's gradient and the net's


@dataclass(frozen=True)
class Outcome:
    """Relative errors by what is compared; ``unmatched`` are parameters without a counterpart."""

    errors: Mapping[str, float]
    unmatched: tuple[str, ...]
    idle: tuple[str, ...]  # parameters whose gradient is zero, so that nothing is compared
    folded: tuple[str, ...]  # parameters that were compared through folded batch norm
    constants: tuple[str, ...]  # what the graph trains that no parameter of the net is

    @property
    def worst(self) -> float:
        """The largest relative error."""
        return max(self.errors.values())


def compare(net: nn.Module, graph: nn.Module, inputs: Sequence[Tensor]) -> Outcome:
    """Outputs of both, and their gradients under one random cotangent."""
    leaves = [x for x in inputs if x.requires_grad]
    own, loaded = dict(net.named_parameters()), dict(graph.named_parameters())
    wanted, found = _run(net, inputs, leaves, own), _run(graph, inputs, leaves, loaded)
    errors = {"output": relative(found.output, wanted.output)}
    for i, pair in enumerate(zip(found.by_input, wanted.by_input, strict=True)):
        errors[f"input {i}"] = relative(*pair)
    same, constants = _by_value(own, wanted.by_parameter, loaded, found.by_parameter)
    folded, used = _unfolded(net, inputs, wanted.by_parameter, loaded, found.by_parameter)
    least = FLOOR * float(_flat(wanted.by_parameter.values()).norm())
    for name, pair in (same | folded).items():
        errors[name] = relative(*pair, least)
    unmatched = tuple(name for name in own if name not in same and name not in folded)
    idle = tuple(name for name, gradient in wanted.by_parameter.items() if not gradient.any())
    rest = tuple(n for n in constants if n not in used and loaded[n].requires_grad)
    return Outcome(errors, unmatched, idle, tuple(folded), rest)


def relative(found: Tensor, wanted: Tensor, least: float = 0.0) -> float:
    """Norm of the difference over the norm."""
    assert found.shape == wanted.shape, f"{list(found.shape)}, not {list(wanted.shape)}"
    assert found.dtype == wanted.dtype, f"{found.dtype}, not {wanted.dtype}"
    error, size = float((found - wanted).norm()), max(float(wanted.norm()), least)
    return error / size if size else error


@dataclass(frozen=True)
class _Ran:
    output: Tensor
    by_input: list[Tensor]
    by_parameter: dict[str, Tensor]


def _run(
    module: nn.Module,
    inputs: Sequence[Tensor],
    leaves: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
) -> _Ran:
    output = module(*inputs)
    generator = torch.Generator().manual_seed(1)
    cotangent = torch.randn(output.shape, generator=generator).to(output.dtype)
    trained = {name: each for name, each in parameters.items() if each.requires_grad}
    each = [*leaves, *trained.values()]
    gradients = torch.autograd.grad(output, each, cotangent, allow_unused=True)
    filled = [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, each, strict=True)]
    by_parameter = {name: torch.zeros_like(x) for name, x in parameters.items()}
    by_parameter |= dict(zip(trained, filled[len(leaves) :], strict=True))
    return _Ran(output.detach(), filled[: len(leaves)], by_parameter)


def _by_value(
    own: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    loaded: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
) -> tuple[dict[str, Pair], tuple[str, ...]]:
    """Gradients by parameter, each entry the sum of all of its value; and the graph's other ones.

    A parameter with an entry that is nowhere in the graph is left out, unless the net does not use
    that entry.
    """
    values, place = torch.unique(_flat(own.values()), return_inverse=True)
    given = _flat(loaded.values())
    there = torch.searchsorted(values, given).clamp(max=len(values) - 1)
    same = values[there] == given
    zero = torch.zeros_like(values)
    sums = zero.index_add(0, place, _flat(wanted.values()))
    sums_found = zero.index_add(0, there[same], _flat(found.values())[same])
    known = zero.index_fill(0, there[same], 1).bool() | (sums == 0)
    pairs = {}
    for name, at in zip(own, _pieces(place, own), strict=True):
        if known[at].all():
            pairs[name] = (sums_found[at], sums[at])
    matched = dict(zip(loaded, _pieces(same, loaded), strict=True))
    return pairs, tuple(name for name, each in matched.items() if not each.any())


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([each.detach().flatten() for each in tensors])


def _pieces(flat: Tensor, parameters: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    return flat.split([each.numel() for each in parameters.values()])


def _unfolded(
    net: nn.Module,
    inputs: Sequence[Tensor],
    wanted: Mapping[str, Tensor],
    loaded: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
) -> tuple[dict[str, Pair], set[str]]:
    """Gradients of parameters around folded batch norms, and the graph's parameters they became."""
    names = {parameter: name for name, parameter in net.named_parameters()}
    pairs, used = {}, set()
    for convolution, norm in _normed(net, inputs):
        folded = _folded(convolution, norm)
        counterparts = [_closest(each, loaded) for each in folded]
        if all(counterparts):
            parameters = [*convolution.parameters(), *norm.parameters()]
            cotangents = [found[name] for name in counterparts]
            gradients = torch.autograd.grad(folded, parameters, cotangents)
            own = [names[each] for each in parameters]
            pairs |= {n: (g, wanted[n]) for n, g in zip(own, gradients, strict=True)}
            used |= set(counterparts)
    return pairs, used


def _normed(net: nn.Module, inputs: Sequence[Tensor]) -> list[tuple[_ConvNd, _BatchNorm]]:
    """Convolutions with the batch norm called on what they made, where that evaluates."""
    made: dict[int, tuple[_ConvNd, Tensor]] = {}
    found = []

    def look(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, _ConvNd):
            made[id(output)] = (module, output)
        elif id(given[0]) in made:
            found.append((made[id(given[0])][0], module))

    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and not m.training]
    watched = [m for m in net.modules() if isinstance(m, _ConvNd)] + norms if norms else []
    hooks = [module.register_forward_hook(look) for module in watched]
    net(*inputs)
    for hook in hooks:
        hook.remove()
    return found


def _folded(convolution: _ConvNd, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that does what both do."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shape = [1] * convolution.weight.dim()
    shape[1 if convolution.transposed else 0] = -1
    bias = 0 if convolution.bias is None else convolution.bias
    return convolution.weight * scale.reshape(shape), (bias - norm.running_mean) * scale + norm.bias


def _closest(tensor: Tensor, loaded: Mapping[str, Tensor]) -> str:
    """The graph's parameter with these values but for rounding; "" where it has none."""
    alike = [name for name, each in loaded.items() if each.shape == tensor.shape]
    errors = {name: relative(loaded[name].detach(), tensor.detach()) for name in alike}
    best = min(errors, key=errors.__getitem__, default="")
    return best if best and errors[best] < _CLOSE else ""
