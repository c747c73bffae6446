"""The stages in order, what each depends on, and how a run resumes. The only place that knows all stages."""

from compress.pipeline.manifest import StageRecord
from compress.pipeline.run import RunResult, run, run_stages

__all__ = ["RunResult", "StageRecord", "run", "run_stages"]
