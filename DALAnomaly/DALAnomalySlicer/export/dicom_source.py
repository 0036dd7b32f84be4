"""The DICOM files that a volume node was loaded from."""

from __future__ import annotations

from pathlib import Path

import slicer

_INSTANCES = "DICOM.instanceUIDs"


def source_files(volume_node: slicer.vtkMRMLScalarVolumeNode) -> tuple[Path, ...]:
    """The files of the slices of a volume, as the DICOM database knows them.

    () when the volume did not come from DICOM or there is no database; slices that the database lost are left out.
    """
    uids = (volume_node.GetAttribute(_INSTANCES) or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        return ()
    return tuple(Path(path) for path in map(database.fileForInstance, uids) if path)
