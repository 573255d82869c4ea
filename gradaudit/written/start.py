"""``prepare(model)``: the code of the remedies that change start values, each as a function."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from gradaudit.mending.change import START
from gradaudit.records import Remedy
from gradaudit.remedies._code import MODEL
from gradaudit.written.words import comment

_ONCE = (
    '    """Set the start values of `model` and return it; once, and before training.\n'
    "\n"
    "    The same model as given gets the same start: what is drawn depends on SEED alone.\n"
    '    """\n'
    "    with torch.random.fork_rng(devices=[]):\n"
    "        torch.manual_seed(SEED)\n"
)
_AS_IT_IS = '    """Return `model`: its start values stay as they are."""\n    return model\n'


@dataclass(frozen=True)
class Part:
    """Some functions of a script, and the lines that they need at its top."""

    code: str
    imports: frozenset[str] = frozenset()
    constants: tuple[str, ...] = ()


def start_part(remedies: Sequence[Remedy], seed: int) -> Part:
    """The functions that change start values, and ``prepare`` that runs them in order."""
    starts = [each for each in remedies if each.safety == START]
    if not starts:
        return Part("def prepare(model):\n" + _AS_IT_IS)
    names = _names(starts)
    imports, functions = {"import torch"}, []
    for name, remedy in zip(names, starts, strict=True):
        lines, needed = _body(remedy.code)
        imports |= needed
        head = comment(f"{remedy.title} Answers {', '.join(remedy.for_codes)}.")
        body = textwrap.indent("\n".join(lines), "    ")
        functions.append("\n".join([*head, f"def {name}(model):", body]) + "\n")
    calls = "".join(f"        {name}(model)\n" for name in names)
    functions.append(f"def prepare(model):\n{_ONCE}{calls}    return model\n")
    return Part("\n\n".join(functions), frozenset(imports), (f"SEED = {seed!r}",))


def _names(starts: Sequence[Remedy]) -> list[str]:
    """A function's name for each; the same remedy may come twice, with other layers."""
    names: list[str] = []
    for remedy in starts:
        name = f"set_{remedy.id.replace('-', '_')}"
        same = sum(each == name or each.startswith(f"{name}_again_") for each in names)
        names.append(f"{name}_again_{same}" if same else name)
    return names


def _body(code: str) -> tuple[list[str], set[str]]:
    """The lines of a remedy's code without its imports, which go to the top of the script."""
    lines = code.rstrip("\n").split("\n")
    imports = {line for line in lines if line.startswith(("import ", "from "))}
    kept = [line.rstrip() for line in lines if line not in imports and line != MODEL]
    while kept and not kept[0]:
        kept.pop(0)
    return kept, imports
