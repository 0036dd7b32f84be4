"""Unsupervised anomaly detection in brain MRI by disentangled anatomy learning (Yang et al., 2026).

Example:
    from DALAnomalyLib import Detector, read_volume

    detection = Detector.load().detect(read_volume("scan.nii.gz"))
    print([finding.volume_ml for finding in detection.findings])

The names below are imported on first use, not with the package: 3D Slicer opens its modules before torch is installed,
and reading a volume does not need torch at all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from DALAnomalyLib.detector import Detection, Detector
    from DALAnomalyLib.errors import DALAnomalyError
    from DALAnomalyLib.findings import Finding
    from DALAnomalyLib.progress import CancelToken
    from DALAnomalyLib.volume import Grid, Volume
    from DALAnomalyLib.volume_io import read_volume, write_volume

__version__ = "0.1.0"

__all__ = [
    "CancelToken",
    "DALAnomalyError",
    "Detection",
    "Detector",
    "Finding",
    "Grid",
    "Volume",
    "__version__",
    "read_volume",
    "write_volume",
]

_DEFINED_IN = {
    "CancelToken": "progress",
    "DALAnomalyError": "errors",
    "Detection": "detector",
    "Detector": "detector",
    "Finding": "findings",
    "Grid": "volume",
    "Volume": "volume",
    "read_volume": "volume_io",
    "write_volume": "volume_io",
}


def __getattr__(name: str) -> object:
    """Import a public name from the module that defines it (PEP 562)."""
    if name not in _DEFINED_IN:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{_DEFINED_IN[name]}"), name)
    globals()[name] = value  # the next access does not come through here
    return value


def __dir__() -> list[str]:
    """List the public names, imported yet or not."""
    return sorted({*globals(), *__all__})
