"""Measuring what ONNX files cost on a device: files in, reports out."""

from compress.profiling.device import Device, Measurement, OperatorRow
from compress.profiling.kept import keep, read_kept
from compress.profiling.profile_report import ProfileReport
from compress.profiling.several import profile_on
from compress.profiling.statistics import Ratio
from compress.profiling.verb import profile

__all__ = [
    "Device",
    "Measurement",
    "OperatorRow",
    "ProfileReport",
    "Ratio",
    "keep",
    "profile",
    "profile_on",
    "read_kept",
]
