"""The anomaly score as a DICOM parametric map."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from DALAnomalyLib.job.manifest import RESEARCH_USE
from DALAnomalySlicer.export.dicom_device import new_instance, require_highdicom, save, score_code
from DALAnomalySlicer.export.export_context import ExportContext
from DALAnomalySlicer.export.image_geometry import DicomData, places_along_normal
from DALAnomalySlicer.export.source_series import private_headers, read_source_series

_SERIES_NUMBER = 9002


def write_parametric_map(context: ExportContext, path: Path) -> None:
    """Write the score as float32, one frame per slice of the scan; a stored value is the score itself, without unit.

    Args:
        context: what to export; findings and marks have no influence.
        path: the file, replaced if it exists; whole or absent.

    Raises:
        InputError: the scan's DICOM files are absent or do not fit (see `read_source_series`).
        OutputError: highdicom is missing, or the file cannot be written.
    """
    require_highdicom()
    series = read_source_series(context)
    score = series.in_frame_order(context.result.score).astype(np.float32)
    from highdicom.pm import ParametricMap

    with private_headers():
        parametric_map = ParametricMap(
            source_images=series.images,
            pixel_array=score,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[_mapping(float(score.min()), float(score.max()))],
            content_label="ANOMALY_SCORE",
            content_description=RESEARCH_USE,
            content_qualification="RESEARCH",
            **_window(max(float(score.max()), context.threshold)),
            **new_instance(context, "score", _SERIES_NUMBER),
        )
        _sort_frames(parametric_map)
        _complete(parametric_map)
    save(parametric_map, path)


def _mapping(lowest: float, highest: float) -> Any:
    from highdicom.pm import RealWorldValueMapping
    from pydicom.sr.codedict import codes

    return RealWorldValueMapping(
        lut_label="SCORE",
        lut_explanation="Anomaly score",
        unit=codes.UCUM.NoUnits,
        value_range=(lowest, highest),
        slope=1.0,
        intercept=0.0,
        quantity_definition=score_code(),
    )


def _window(highest: float) -> dict[str, Any]:
    """Display from 0 to the highest score, in the words of the installed highdicom (0.28 changed them)."""
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap

    window = {"window_center": highest / 2, "window_width": highest}
    if "voi_lut_transformations" in signature(ParametricMap).parameters:
        return {"voi_lut_transformations": [VOILUTTransformation(**window)]}
    return window


def _sort_frames(parametric_map: DicomData) -> None:
    """Store the frames along their normal, whatever order highdicom chose.

    dcmqi, which 3D Slicer reads parametric maps with, stacks them as they are stored; highdicom 0.28 stores the last
    one first, and 0.27 gives all of them the same index.
    """
    frames = parametric_map.PerFrameFunctionalGroupsSequence
    order = np.argsort(places_along_normal(parametric_map))
    pixels = np.frombuffer(parametric_map.FloatPixelData, "<f4").reshape(len(frames), -1)
    parametric_map.FloatPixelData = pixels[order].tobytes()
    parametric_map.PerFrameFunctionalGroupsSequence = [frames[int(index)] for index in order]
    for number, frame in enumerate(parametric_map.PerFrameFunctionalGroupsSequence, start=1):
        frame.FrameContentSequence[0].DimensionIndexValues = number


def _complete(parametric_map: DicomData) -> None:
    """Add what highdicom leaves out."""
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    parametric_map.ContentCreatorName = ""  # to be there, if empty
    shared = parametric_map.SharedFunctionalGroupsSequence[0]
    # Only with this function may a window be narrower than 1 (PS3.3 C.11.2.1.3.2), as that of a score is.
    shared.FrameVOILUTSequence[0].VOILUTFunction = "LINEAR_EXACT"
    anatomy = Dataset()  # dcmqi crashes without it
    anatomy.FrameLaterality = "U"  # an unpaired part of the body
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(codes.SCT.Brain)]
    shared.FrameAnatomySequence = [anatomy]
