"""The stages in order, what each depends on, and how a run resumes. The only place that knows all stages."""

from compress.pipeline.comparing import Comparison, compare
from compress.pipeline.manifest import StageRecord
from compress.pipeline.run import RunResult, run, run_stages

__all__ = ["Comparison", "RunResult", "StageRecord", "compare", "run", "run_stages"]
