"""The frozen records that flow from probes to reports."""

from gradaudit.records.attention import AttentionRow, HeadRow
from gradaudit.records.comparison import (
    CHANGES,
    PAST,
    Change,
    Comparison,
    FindingChange,
    Known,
    MetricChange,
)
from gradaudit.records.contents import Contents, GlobalEntry, Standing, TensorEntry, Trust
from gradaudit.records.curvature import Curvature
from gradaudit.records.difference import Compared, Difference
from gradaudit.records.estimate import Estimate, Limit, NotMeasured
from gradaudit.records.findings import (
    SEVERITIES,
    Finding,
    Forecast,
    Outcome,
    Remedy,
    Safety,
    Severity,
    Verdict,
    Where,
)
from gradaudit.records.measurements import (
    DataRow,
    GradientNorm,
    LossRow,
    Measurements,
    ModuleRow,
    NonFinite,
    ParameterRow,
    RateRange,
    RecurrentRow,
    Rehearsal,
    SampleRow,
    StageRow,
    StateRow,
    TrunkRow,
    WeightPart,
    WeightRow,
)
from gradaudit.records.outcome import FAIL_ON, FailOn, exit_code, held
from gradaudit.records.outlook import Outlook, Trial
from gradaudit.records.precision import HalfRow, Precision
from gradaudit.records.proof import Attempt, Prescription, Proof, Side
from gradaudit.records.recipe import Recipe
from gradaudit.records.report import SCHEMA, Report, SubjectRow, plain
from gradaudit.records.run import Audited, RuleDoc, Run
from gradaudit.records.snapshot import Measured, Snapshot

__all__ = [
    "CHANGES",
    "FAIL_ON",
    "PAST",
    "SCHEMA",
    "SEVERITIES",
    "Attempt",
    "AttentionRow",
    "Audited",
    "Change",
    "Compared",
    "Comparison",
    "Contents",
    "Curvature",
    "DataRow",
    "Difference",
    "Estimate",
    "FailOn",
    "Finding",
    "FindingChange",
    "Forecast",
    "GlobalEntry",
    "GradientNorm",
    "HalfRow",
    "HeadRow",
    "Known",
    "Limit",
    "LossRow",
    "Measured",
    "Measurements",
    "MetricChange",
    "ModuleRow",
    "NonFinite",
    "NotMeasured",
    "Outcome",
    "Outlook",
    "ParameterRow",
    "Precision",
    "Prescription",
    "Proof",
    "RateRange",
    "Recipe",
    "RecurrentRow",
    "Rehearsal",
    "Remedy",
    "Report",
    "RuleDoc",
    "Run",
    "Safety",
    "SampleRow",
    "Severity",
    "Side",
    "Snapshot",
    "StageRow",
    "Standing",
    "StateRow",
    "SubjectRow",
    "TensorEntry",
    "Trial",
    "TrunkRow",
    "Trust",
    "Verdict",
    "WeightPart",
    "WeightRow",
    "Where",
    "exit_code",
    "held",
    "plain",
]
