"""All volumes of a result as files for other programs, with the table and the record of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from DALAnomalyLib.job.result_folder import result_folder
from DALAnomalyLib.job.result_layout import MANIFEST_FILE, write_manifest, writing_result
from DALAnomalyLib.volume import Volume
from DALAnomalySlicer.export.export_context import RESULT_ARRAYS, ExportContext
from DALAnomalySlicer.export.findings_csv import write_findings_csv

VolumeSuffix = Literal[".nii.gz", ".nrrd"]
_SUFFIXES = (".nii.gz", ".nrrd")
_FINDINGS, _TABLE = "findings", "findings.csv"


def write_volumes(context: ExportContext, folder: Path, suffix: VolumeSuffix = ".nii.gz") -> tuple[str, ...]:
    """Write every volume of the result on the scan's grid, the findings table and the manifest into a folder.

    File names say what is inside and never whose scan it is. The label map `findings` leaves the dismissed findings
    out; the table lists them as such.

    Args:
        context: what to export.
        folder: made whole or not at all; an older export is replaced, anything else refused.
        suffix: the format.

    Returns:
        The names of the files in the folder.

    Raises:
        OutputError: the folder holds other files, cannot be written, or the disk is full.
    """
    from DALAnomalyLib.volume_io import write_volume  # needs SimpleITK

    volumes = _volumes(context)
    replaceable = [f"{name}{either}" for name in (*RESULT_ARRAYS, _FINDINGS) for either in _SUFFIXES]
    with result_folder(folder, [*replaceable, _TABLE, MANIFEST_FILE], force=True) as partial, writing_result(folder):
        for name, volume in volumes.items():
            write_volume(volume, partial / f"{name}{suffix}")
        write_findings_csv(context, partial / _TABLE)
        write_manifest(partial, _record(context))
        return tuple(sorted(path.name for path in partial.iterdir()))


def _volumes(context: ExportContext) -> dict[str, Volume]:
    results = {name: context.scan.with_array(array) for name, array in context.arrays.items()}
    return {**results, _FINDINGS: context.kept_labels()}


def _record(context: ExportContext) -> dict[str, Any]:
    """The manifest with what the user has chosen since."""
    chosen = {"threshold": context.threshold, "minimum_finding_ml": context.minimum_volume_ml}
    return {**context.result.manifest, "export": {**chosen, "findings": len(context.kept_rows)}}
