"""compress: from a trained network to a budgeted, proven, measured artefact on an embedded target."""

__version__ = "0.1.0"
