"""Every option and threshold, with its unit and where it comes from.

``Settings`` is what the command line, ``[tool.gradaudit]`` and :func:`gradaudit.audit` all fill in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal, cast

from gradaudit.limits import LIMITS, told_value, with_limits
from gradaudit.records import Limit, Recipe, Severity
from gradaudit.tolerances import TOLERANCES, with_tolerances

EFFORTS = ("quick", "standard", "thorough")
State = Literal["auto", "fresh", "trained"]
Demand = Severity | Literal["off"]
DEMANDS: tuple[Demand, ...] = ("fail", "warn", "note", "off")


@dataclass(frozen=True)
class Budget:
    """What one effort level spends, in the units of the cost table (training steps)."""

    probes: int  # random cotangents for the Jacobian (0.35 step each on a transformer)
    tangents: int  # forward-mode probes (1.4 steps each)
    gradient_batches: int  # batches the real loss's gradient is taken on
    rehearsal_steps: int
    range_steps: int  # learning-rate range test
    lanczos_steps: int  # per weight, apart from the step budget
    curvature_products: int  # Hessian-vector products, where each is dear (3.9 steps a batch)
    singular_steps: int  # Lanczos steps per stage Jacobian; 0: only where they cost next to nothing
    singular_cost: int  # training steps to spend on them, the worst stage first
    allowance: float  # seconds of one core for training small nets beyond the rehearsal
    search_steps: int  # training steps to look for a cure with, where one is needed


BUDGETS: Mapping[str, Budget] = {
    "quick": Budget(8, 0, 1, 4, 0, 40, 0, 0, 0, 0.0, 0),
    "standard": Budget(16, 2, 6, 16, 12, 60, 8, 8, 2, 1.5, 150),
    "thorough": Budget(64, 8, 60, 80, 32, 120, 20, 12, 50, 10.0, 300),
}


@lru_cache(maxsize=100_000)
def _covers(glob: str, name: str) -> bool:
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[: end + 1]), glob) for end in range(len(parts)))


@dataclass(frozen=True)
class LayerSettings:
    """What holds for the layers whose names ``match``, over what holds for all.

    A pattern (``*``, ``?``, ``[...]``, as of a shell) covers every module, parameter and stage of
    that name, and everything inside it. ``ignore`` and ``severities`` name rules as in
    :class:`Settings`; of several that match a layer the last one that says something wins.
    """

    match: tuple[str, ...]
    ignore: tuple[str, ...] = ()
    severities: Mapping[str, Demand] = field(default_factory=dict)
    limits: Mapping[str, float | Limit] = field(default_factory=dict)
    reason: str = ""
    source: str = ""  # where it is set, for the sources of its limits
    place: str = field(default="", compare=False)  # the same with the line

    def covers(self, name: str) -> bool:
        """Whether ``name``, or what it lies in, is called as one of the patterns."""
        return bool(name) and any(_covers(glob, name) for glob in self.match)

    @property
    def told(self) -> str:
        """What is changed, in words."""
        parts = [f"{', '.join(self.ignore)} ignored"] if self.ignore else []
        parts += [f"{code} {demand}" for code, demand in self.severities.items()]
        for name, value in self.limits.items():
            number = value.value if isinstance(value, Limit) else value
            parts.append(f"{name.replace('_', '-')} {told_value(number)}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Settings:
    """How an audit is run. Field names are the long option names with ``_`` for ``-``.

    ``limits`` and ``tolerances`` may be given as numbers and in part:
    ``Settings(limits={"growth_max": 1e4})``.
    ``severities`` replace what a rule says: its findings that fail or warn have that severity; one
    that is a note stays a note, and ``"off"`` ignores the rule. Keys of ``severities`` and
    ``reasons`` are what ``select`` and ``ignore`` hold: codes, prefixes of codes, or names.
    Raises ``UsageError`` for one that is unknown or cannot have that value.
    """

    data: str | None = None
    batch_size: int | None = None
    target: str | None = None
    loss: str = "auto"
    build: str | None = None
    input: str | None = None
    state: State = "auto"
    reinit: bool = False
    trust: bool = False
    recipe: Recipe = field(default_factory=Recipe)
    effort: Literal["quick", "standard", "thorough"] = "standard"
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)  # why a rule is selected or ignored
    severities: Mapping[str, Demand] = field(default_factory=dict)
    layers: tuple[LayerSettings, ...] = ()
    limits: Mapping[str, float | Limit] = field(default_factory=lambda: dict(LIMITS))
    tolerances: Mapping[str, float | Limit] = field(default_factory=lambda: dict(TOLERANCES))
    spent: Budget | None = None  # instead of the effort's budget, for trials inside a search

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", with_limits(self.limits))
        object.__setattr__(self, "tolerances", with_tolerances(self.tolerances))
        for layer in self.layers:
            with_limits(layer.limits, over=self.all_limits)

    @property
    def all_limits(self) -> Mapping[str, Limit]:
        """Every limit in force, by name."""
        return cast("Mapping[str, Limit]", self.limits)  # __post_init__ has made them so

    @property
    def all_tolerances(self) -> Mapping[str, Limit]:
        """Every tolerance in force, by name."""
        return cast("Mapping[str, Limit]", self.tolerances)

    @property
    def budget(self) -> Budget:
        """What this effort level may spend."""
        return self.spent or BUDGETS[self.effort]

    def limit(self, name: str) -> Limit:
        """The threshold called ``name``; raises ``KeyError`` for a name nobody defined."""
        return self.all_limits[name]

    def undemanded(self) -> Settings:
        """The same without the severities that were set; what is off stays off."""
        return replace(
            self,
            severities=_off(self.severities),
            layers=tuple(replace(each, severities=_off(each.severities)) for each in self.layers),
        )

    def to_record(self) -> dict[str, object]:
        """What the audit goes by, for the report: the settings in force but for the recipe."""
        left_out = ("recipe", "spent", "tolerances")
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        record = {name: value for name, value in named.items() if name not in left_out}
        # without the line that each is set at, which moves with what stands above it
        return {**record, "layers": tuple(_without_place(layer) for layer in self.layers)}


def _off(severities: Mapping[str, Demand]) -> dict[str, Demand]:
    return {code: demand for code, demand in severities.items() if demand == "off"}


def _without_place(layer: LayerSettings) -> dict[str, object]:
    named = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}
    return {name: value for name, value in named.items() if name != "place"}
