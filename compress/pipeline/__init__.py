"""The stages in order, what each depends on, and how a run resumes. The only place that knows all stages."""

from compress.pipeline.run import RunResult, run

__all__ = ["RunResult", "run"]
