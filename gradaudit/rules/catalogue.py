"""Finds the rules by walking this package, and runs those that were asked for.

A rule is a module here without a leading underscore that holds ``CODE``, ``NAME``, ``ORDER``
(what to fix first: lower comes earlier), ``LIMITS`` (names of those that it holds its own numbers
against), a docstring with :data:`HEADINGS`, and ``check(measurements, settings)``.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from gradaudit.errors import UsageError
from gradaudit.limits import LIMITS, told_value
from gradaudit.records import SEVERITIES, Finding, Measurements, RuleDoc
from gradaudit.rules._astride import told
from gradaudit.rules._terms import Places, RuleTerms, means
from gradaudit.rules._weighed import weighed
from gradaudit.settings import Settings

Check = Callable[[Measurements, Settings], Iterable[Finding]]

HEADINGS = (
    "What it measures",
    "Why it hurts",
    "Example",
    "Remedy",
    "Safety",
    "References",
)
_CONSEQUENCE = 10_000


@dataclass(frozen=True)
class Rule:
    """One entry of the catalogue."""

    code: str
    name: str
    doc: str  # the file's docstring, Markdown
    check: Check
    order: int
    limits: tuple[str, ...]  # names of the limits that decide; those of others may be read beside

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.doc.strip().splitlines()[0]

    @property
    def sections(self) -> Mapping[str, str]:
        """Text under each heading, in the order of the docstring."""
        parts = self.doc.split("\n## ")[1:]
        pairs = (part.split("\n", 1) for part in parts)
        return {heading.strip(): body.strip() for heading, body in pairs}

    @property
    def page(self) -> str:
        """All there is to say about the rule: its documentation, and the limits one may set."""
        lines = [f"{self.code} {self.name}", "", self.doc.strip()]
        if self.limits:
            lines += ["", "## Limits", f"To be set in [tool.gradaudit.rules.{self.code}]:"]
        for name in self.limits:
            limit, key = LIMITS[name], name.replace("_", "-")
            lines.append(f"- `{key} = {told_value(limit.value)}` ({limit.unit}): {limit.source}")
        return "\n".join(lines)

    @property
    def described(self) -> RuleDoc:
        """The rule's page as a record, for reports."""
        return RuleDoc(self.code, self.name, self.summary, self.sections)


@cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule, sorted by code."""
    package = __name__.rpartition(".")[0]
    path = import_module(package).__path__
    rules = []
    for found in pkgutil.iter_modules(path):
        if found.name.startswith("_") or found.name == "catalogue":
            continue
        home = import_module(f"{package}.{found.name}")
        doc = home.__doc__ or ""
        rules.append(Rule(home.CODE, home.NAME, doc, home.check, home.ORDER, home.LIMITS))
    return tuple(sorted(rules, key=lambda r: r.code))


def rule(code_or_name: str) -> Rule:
    """The rule of that code (any case) or name.

    Raises :class:`~gradaudit.errors.UsageError` naming the nearest known one.
    """
    wanted = code_or_name.strip().lower()
    for known in all_rules():
        if wanted in (known.code.lower(), known.name):
            return known
    raise _unknown(code_or_name)


def run_rules(measurements: Measurements, settings: Settings) -> tuple[Finding, ...]:
    """What the selected rules find: worst first, then in the order to fix it in.

    ``settings.select`` and ``settings.ignore`` hold codes, prefixes of codes ("GA1") or names; an
    empty ``select`` means all. Severities that the user set come last, over what training itself
    says. Raises :class:`~gradaudit.errors.UsageError` for an unknown rule.
    """
    chosen = chosen_rules(settings)
    by_code = {each.code: each for each in chosen}
    places = Places(measurements, settings.layers)
    terms = {each.code: RuleTerms(each, settings, places) for each in chosen}
    found = [f for each in terms.values() for f in each.found(measurements)]
    judged = map(told, weighed(found, measurements))
    demanded = [terms[f.code].demanded(f) for f in judged]
    findings = [
        (SEVERITIES.index(f.severity), _order(by_code[f.code], measurements), f.code, f)
        for f in demanded
    ]
    # Findings of one rule keep the order in which the rule gave them: the sort is stable.
    return tuple(item[-1] for item in sorted(findings, key=lambda item: item[:3]))


def chosen_rules(settings: Settings) -> tuple[Rule, ...]:
    """The rules that are selected and not ignored, sorted by code.

    Raises ``UsageError`` for a code or name anywhere in the settings that no rule has.
    """
    selected = matching(settings.select) if settings.select else set(all_rules())
    chosen = selected - matching(settings.ignore)
    for layer in settings.layers:
        matching((*layer.ignore, *layer.severities))
    matching(settings.severities)
    return tuple(sorted(chosen, key=lambda each: each.code))


def _order(each: Rule, measurements: Measurements) -> int:
    """A NaN that only training brings forth is what a fault led to, not the fault itself."""
    if each.code == "GA001" and not measurements.nonfinite:
        return _CONSEQUENCE
    return each.order


def matching(patterns: Iterable[str]) -> set[Rule]:
    """The rules meant by codes, starts of codes or names; ``UsageError`` where one means none."""
    chosen: set[Rule] = set()
    for pattern in patterns:
        hits = {each for each in all_rules() if means(pattern, each)}
        if not hits:
            raise _unknown(pattern)
        chosen |= hits
    return chosen


def _unknown(pattern: str) -> UsageError:
    known = [each.code for each in all_rules()] + [each.name for each in all_rules()]
    for wanted in (pattern.strip().upper(), pattern.strip().lower()):
        near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.4)
        if near:
            hint = f"nearest: {near[0]}"
            break
    else:
        hint = "`gradaudit rules` lists them"
    return UsageError(
        f"no rule is called {pattern!r}",
        expected="a code, the start of a code, or a name",
        next_step=hint,
    )
