"""A sound file may call its tensors anything: the names are harmless wherever they are shown."""

from __future__ import annotations

import ast
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from markdown_it import MarkdownIt
from safetensors.torch import save_file
from torch import nn

from gradaudit.cli import cli
from tests.hostile.harness import Outcome, Place, Zygote, check, check_line

WORD = "canary"
ADDRESS = re.compile(r"#[A-Za-z0-9._~-]+")  # a place within the page, named after a layer
NAMES = {
    "HTML": f"<{WORD} on{WORD}=1>x</{WORD}>",
    "an attribute's end": f'"\'><{WORD} on{WORD}="1" x=\'',
    "the end of a script": f"</script></style></title></svg>--> ]]><{WORD}>",
    "an entity": f"&lt;{WORD}&gt;&#60;{WORD}&#62;",
    "a template": "{{ 7 * 191 }}{% raw %}${7*191}",
    "ANSI": "\x1b[31m\x1b]0;title\x07\x1b[2J\x9b31m",
    "markup of rich": f"[red][link=https://{WORD}.invalid]x[/link][/red][/]",
    "markdown": f"|`x`|[{WORD}](javascript:alert(1))![x](https://{WORD}.invalid/x.png)|*a*",
    "lines": "a\nb\r\nc\x0bd\x85e\u2028f\u2029g",
    "bidi": "\u202egnp.x\u202c\u2066\u200f",
    "code": f'"""\'\'\'\\\nimport os\nos.system("touch {WORD}")\n#',
    "a formula": f"=cmd|' /C {WORD}'!A0",
    "NUL": "a\0b",
    "length": "n" * 10_000,
    "emoji": "🦜" * 50,
    "spaces": "   ",
}
SURROGATE = {"a lone surrogate": "\ud800\udfff\ud800"}
FLAGS = {
    "--output": "html",
    "--json": "json",
    "--sarif": "sarif",
    "--junit": "xml",
    "--markdown": "md",
}


def formats() -> dict[str, str]:
    """Every option of the command that writes a report, and the suffix of what it writes."""
    known = {flag for param in cli.commands["audit"].params for flag in param.opts}
    return {flag: suffix for flag, suffix in FLAGS.items() if flag in known}


def net(names: list[str]) -> nn.Sequential:
    """Layers whose weights are six times too large, one for each name: findings name them."""
    torch.manual_seed(0)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, name in enumerate(names):
        layer = nn.Linear(16, 16)
        with torch.no_grad():
            layer.weight.mul_(6.0)
        layers[name.replace(".", "")] = layer
        layers[f"act{index}"] = nn.Tanh()
    layers["head"] = nn.Linear(16, 1)
    return nn.Sequential(layers)


def sample(place: Place) -> Path:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(256, 16, generator=generator)
    save_file({"x": x, "y": x[:, :1] - x[:, 1:2]}, place.files / "sample.safetensors")
    return place.files / "sample.safetensors"


def pickled(
    place: Place, names: Sequence[str] = (*NAMES.values(), *SURROGATE.values())
) -> list[str]:
    torch.save(net(list(names)), place.files / "model.pt")
    recipe = ("--optimizer", "sgd", "--lr", "0.05", "--data", str(sample(place)))
    return [str(place.files / "model.pt"), *recipe]


def state_dict(place: Place) -> list[str]:
    state = {f"{name}.weight": torch.randn(8, 8) * 50 for name in NAMES.values()}
    state |= {f"{name}.weight": torch.full((4, 4), torch.nan) for name in SURROGATE.values()}
    torch.save(state, place.files / "model.pt")
    return [str(place.files / "model.pt")]


def safetensors(place: Place) -> list[str]:
    state = {f"{name}.weight": torch.full((8, 8), torch.inf) for name in NAMES.values()}
    save_file(state, place.files / "model.safetensors", {f"<{WORD}>": f"</script><{WORD}>"})
    return [str(place.files / "model.safetensors")]


KINDS: dict[str, Callable[[Place], list[str]]] = {
    "pickled module": pickled,
    "state dict": state_dict,
    "safetensors": safetensors,
}


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_harmless(kind: str, place: Place, zygote: Zygote) -> None:
    arguments = KINDS[kind](place)
    for flag, suffix in formats().items():
        arguments += [flag, f"report.{suffix}"]
    outcome = zygote.ask(place.work, arguments=[*arguments, "--effort", "quick"], seconds=60)
    check(outcome, frozenset({0, 1, 3}), zygote.rss)
    assert not place.canary.exists()
    _check_terminal(outcome)
    for suffix in formats().values():
        text = (place.work / f"report.{suffix}").read_bytes().decode("utf-8")
        CHECKS[suffix](text)
    report = json.loads((place.work / "report.json").read_text())
    shown = json.dumps(report)
    assert WORD in shown
    assert len(report["measurements"]["weights"]) >= len(NAMES)


def _check_terminal(outcome: Outcome) -> None:
    """No control character comes through, and no name is taken for markup."""
    for line in outcome.err.split("\n"):
        assert line.isprintable(), repr(line)


class _Elements(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _check_html(text: str) -> None:
    page = _Elements()
    page.feed(text)
    page.close()
    assert not [tag for tag in page.tags if WORD in tag]
    assert not [name for name in page.attributes if WORD in name or name.startswith("on")]
    beyond = [link for link in page.links if not ADDRESS.fullmatch(link)]
    assert not [link for link in beyond if WORD in link or "script:" in link]
    assert WORD in "".join(page.text), "the names are not shown at all"
    assert "1337" not in text, "a template in a name was filled in"
    controls = re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", text)
    assert not controls, controls[:5]


def _check_json(text: str) -> None:
    json.loads(text)
    assert "\x1b" not in text


def _check_xml(text: str) -> None:
    root = ElementTree.fromstring(text)
    assert not [element.tag for element in root.iter() if WORD in element.tag]


def _check_markdown(text: str) -> None:
    page = _Elements()
    page.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))
    page.close()
    assert not [tag for tag in page.tags if WORD in tag or tag in ("script", "img")]
    assert not [name for name in page.attributes if WORD in name or name.startswith("on")]
    assert not page.links
    assert WORD in "".join(page.text)
    assert "\x1b" not in text


CHECKS: dict[str, Callable[[str], None]] = {
    "html": _check_html,
    "json": _check_json,
    "sarif": _check_json,
    "xml": _check_xml,
    "md": _check_markdown,
}


def test_names_are_harmless_in_a_cure(place: Place, zygote: Zygote) -> None:
    """What is written to be pasted is code: names stand in it as text only."""
    names = [NAMES[name] for name in ("HTML", "code", "lines", "ANSI", "markup of rich")] * 2
    unlike = [f"{index}{name}" for index, name in enumerate(names)]
    arguments = ["fix", *pickled(place, unlike), "--effort", "quick", "-o", "fixed"]
    outcome = zygote.ask(place.work, arguments=arguments, seconds=120)
    assert outcome.code == 0, outcome.err
    _check_terminal(outcome)
    script = ast.parse((place.work / "fixed" / "fix.py").read_text())
    imported = [node for node in ast.walk(script) if isinstance(node, ast.Import)]
    assert "os" not in {alias.name for node in imported for alias in node.names}
    assert not [n for n in ast.walk(script) if isinstance(n, ast.Attribute) and n.attr == "system"]
    _check_html((place.work / "fixed" / "report.html").read_text())


def test_a_name_that_no_file_can_hold_is_told_before_the_search(
    place: Place, zygote: Zygote
) -> None:
    arguments = ["fix", *pickled(place, list(SURROGATE.values())), "--effort", "quick"]
    outcome = zygote.ask(place.work, arguments=[*arguments, "-o", "fixed"])
    assert outcome.code == 2
    check_line(outcome)
    assert "names of tensors that are text" in outcome.err
    assert not (place.work / "fixed").exists()
