"""Budgets: what a model file may cost, checked without running it and without torch."""

from compress.check.metrics import BASELINE_NAME, METRICS_NAME
from compress.check.models import BUDGET_NAME, MODEL_NAME
from compress.check.verb import CheckResult, Facts, Row, accept, check, measure
from compress.verbs import callable_module

__all__ = [
    "BASELINE_NAME",
    "BUDGET_NAME",
    "METRICS_NAME",
    "MODEL_NAME",
    "CheckResult",
    "Facts",
    "Row",
    "accept",
    "check",
    "measure",
]

callable_module(__name__, check)
