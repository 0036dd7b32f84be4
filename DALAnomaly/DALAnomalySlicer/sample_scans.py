"""Sample scans for trying the module: the synthetic subject that ships with it, and Slicer's own T1 and T2."""

from __future__ import annotations

import hashlib
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from DALAnomalySlicer.module_resources import resource

CATEGORY = "DALAnomaly"


def load_sample(sequence: str) -> slicer.vtkMRMLScalarVolumeNode:
    """Load the bundled synthetic subject, "T1" or "T2"; its lesion is known."""
    node = slicer.util.loadVolume(str(resource(f"SampleData/sample_{sequence}.nii.gz")), {"name": f"Sample {sequence}"})
    return node


def register_sample_data() -> None:
    """Offer the bundled scans in Slicer's Sample Data module; they are files of this extension, not downloads."""
    try:
        import SampleData
    except ModuleNotFoundError:
        return  # slimmed-down Slicer without that module
    icon = str(resource("Icons/DALAnomaly.png"))
    for sequence in ("T1", "T2"):
        path = resource(f"SampleData/sample_{sequence}.nii.gz")
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=f"DALAnomalySample{sequence}",
            thumbnailFileName=icon,
            uris=path.as_uri(),
            fileNames=path.name,
            checksums=f"SHA256:{_sha256(path)}",
            nodeNames=_("Sample {sequence}").format(sequence=sequence),
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
