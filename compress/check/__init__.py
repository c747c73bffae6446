"""Budgets: what a model file may cost, checked without running it and without torch."""

from compress.check.metrics import BASELINE_NAME, METRICS_NAME
from compress.check.verb import BUDGET_NAME, MODEL_NAME, CheckResult, Facts, Row, check, measure

__all__ = [
    "BASELINE_NAME",
    "BUDGET_NAME",
    "METRICS_NAME",
    "MODEL_NAME",
    "CheckResult",
    "Facts",
    "Row",
    "check",
    "measure",
]
