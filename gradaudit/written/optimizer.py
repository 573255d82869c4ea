"""``make_optimizer(model)``: the optimizer that the proof trained with, complete."""

from __future__ import annotations

from collections.abc import Mapping

from gradaudit.mending.made import Group, Made
from gradaudit.written.start import Part
from gradaudit.written.words import comment

NUMBERS = ("lr", "momentum", "betas", "eps", "weight_decay")


def optimizer_part(made: Made, prescribed: Mapping[str, object]) -> Part:
    """Of torch's own classes a call with all numbers; else the user's, with what is to be set."""
    written = [name for name in ("optimizer", *NUMBERS) if prescribed.get(name) is not None]
    if not made.of_torch:
        return _of_another_class(made, {n: prescribed[n] for n in NUMBERS if n in written})
    told = f"Prescribed: {', '.join(written)}; the rest is yours." if written else "Yours as it is."
    head = comment(told)
    if made.every or made.trainable:
        code = _one_group(made)
        return Part("\n".join([*head, code]), frozenset({"import torch"}))
    table = [
        "GROUPS = [",
        *(line for group in made.groups for line in _entry(group)),
        "]",
    ]
    code = (
        "def make_optimizer(model):\n"
        f'    """Make {made.name} over the parameters of GROUPS."""\n'
        "    groups = [\n"
        '        {**group, "params": [model.get_parameter(name) for name in group["params"]]}\n'
        "        for group in GROUPS\n"
        "    ]\n"
        f"    return torch.optim.{made.name}(groups)\n"
    )
    return Part("\n".join([*head, code]), frozenset({"import torch"}), ("\n".join(table),))


def _one_group(made: Made) -> str:
    options = [f"{name}={value!r}" for name, value in made.groups[0].options.items()]
    which = "parameters"
    lines = ["def make_optimizer(model):", f'    """Make {made.name} over what is trained."""']
    if made.every:
        which = "model.parameters()"
    else:
        lines.append("    parameters = [p for p in model.parameters() if p.requires_grad]")
    lines.append(f"    return torch.optim.{made.name}({', '.join([which, *options])})")
    return "\n".join(lines) + "\n"


def _entry(group: Group) -> list[str]:
    """One parameter group as a dict, a name a line."""
    return [
        "    {",
        '        "params": [',
        *(f"            {name!r}," for name in group.parameters),
        "        ],",
        *(f'        "{name}": {value!r},' for name, value in group.options.items()),
        "    },",
    ]


def _of_another_class(made: Made, numbers: Mapping[str, object]) -> Part:
    what = f"`make` is your own function from parameters to {made.name}, which torch has not. "
    told = f"Prescribed: {', '.join(numbers)}." if numbers else "It stays as it is."
    lines = [
        *comment(what + told),
        "def make_optimizer(model, make):",
        '    """Make the optimizer and set what is prescribed in it."""',
        "    optimizer = make(model.parameters())",
    ]
    if numbers:
        lines.append("    for group in optimizer.param_groups:")
        lines += [f'        group["{name}"] = {value!r}' for name, value in numbers.items()]
    return Part("\n".join([*lines, "    return optimizer"]) + "\n")
