"""Results that stay: `export/<model>/<device>/profile.json`, to compare later models with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compress.artifact import PROFILE_NAME, device_folder, model_name, read_json, write_json
from compress.errors import ModelFileError
from compress.profiling.profile_report import ProfileReport


def keep(reports: Sequence[ProfileReport], export: Path, but: Path | None = None) -> list[Path]:
    """Writes each report below `export` and returns where.

    Args:
        reports: of one device.
        export: the folder.
        but: a file that is left as it is, the baseline of this comparison.

    Raises:
        MachineError: if a file cannot be written.
    """
    names = [model_name(Path(report.model)) for report in reports]
    written = []
    for report, name in zip(reports, names, strict=True):
        namesakes = {other.model_sha256 for other, same in zip(reports, names, strict=True) if same == name}
        folder = f"{name}-{report.model_sha256[:8]}" if len(namesakes) > 1 else name
        path = export / folder / device_folder(report.device) / PROFILE_NAME
        if but is not None and path.resolve() == but.resolve():
            continue
        write_json(path, report.to_dict())
        written.append(path)
    return list(dict.fromkeys(written))


def read_kept(path: Path) -> ProfileReport:
    """Reads a report that was kept.

    Raises:
        ModelFileError: if it is missing or not a report.
    """
    found = read_json(path, next_step="name the profile.json that an earlier `compress profile` kept")
    try:
        return ProfileReport.from_dict(found)
    except ModelFileError as error:
        raise ModelFileError(f"baseline {path}: {error}") from error
