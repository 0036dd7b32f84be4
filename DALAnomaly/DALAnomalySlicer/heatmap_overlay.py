"""The heatmap with an opacity that grows with the score.

Slice views take the opacity in a colour table for all or nothing, so fading needs voxels with an opacity of their own:
a volume of red, green, blue and alpha, which is shown instead of the heatmap.
"""

from __future__ import annotations

import json

import numpy as np
import slicer
from slicer.i18n import tr as _

from DALAnomalyLib.errors import InputError
from DALAnomalySlicer.colour_tables import HEAT
from DALAnomalySlicer.heatmap_legend import add_overlay_legend
from DALAnomalySlicer.node_roles import results_of, scan_of
from DALAnomalySlicer.result_builder import ResultBuilder
from DALAnomalySlicer.subject_folder import put_beside_scan

_ROLE = "overlay"
_BOX = "DALAnomaly.box"


def find_overlay(heatmap: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLVectorVolumeNode | None:
    """The overlay of a heatmap, if one was made."""
    scan = scan_of(heatmap)
    return None if scan is None else results_of(scan).get(_ROLE)


def update_overlay(heatmap: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLVectorVolumeNode:
    """Make the overlay or bring it up to date with the heatmap's voxels, colours and threshold.

    Raises:
        InputError: the scan was removed from the scene.
    """
    scan = scan_of(heatmap)
    if scan is None:
        msg = _('The scan of "{heatmap}" was removed, so its heatmap cannot fade; load the scan and detect again.')
        raise InputError(msg.format(heatmap=heatmap.GetName()))
    build = ResultBuilder(scan, results_of(scan))
    overlay = build.volume(_ROLE, _("fading heatmap"), _colours(heatmap), "vtkMRMLVectorVolumeNode")
    overlay.SetVoxelVectorType(slicer.vtkMRMLVolumeNode.VoxelVectorTypeColorRGBA)
    overlay.SetAttribute(_BOX, json.dumps(_bounding_box(slicer.util.arrayFromVolume(heatmap))))
    display = overlay.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 255)
    add_overlay_legend(overlay, heatmap.GetScalarVolumeDisplayNode().GetWindowLevelMax())
    fade(overlay, heatmap)
    put_beside_scan(build.new_nodes, scan)
    return overlay


def fade(overlay: slicer.vtkMRMLVectorVolumeNode, heatmap: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Opacity 0 below the heatmap's threshold; from there proportional to the score, 1 at the brightest colour."""
    box = tuple(slice(*ends) for ends in json.loads(overlay.GetAttribute(_BOX)))
    score = slicer.util.arrayFromVolume(heatmap)[box]
    shown = score >= heatmap.GetScalarVolumeDisplayNode().GetLowerThreshold()
    slicer.util.arrayFromVolume(overlay)[box][..., 3] = _levels(score, heatmap) * shown
    slicer.util.arrayFromVolumeModified(overlay)


def _colours(heatmap: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """Uint8 (D, H, W, 4), transparent as yet; coloured even where nothing is shown, lest edges blur with black."""
    colours = np.zeros((256, 4), dtype=np.uint8)
    colours[:, :3] = np.rint(HEAT.colours() * 255)
    return colours[_levels(slicer.util.arrayFromVolume(heatmap), heatmap)]


def _levels(score: np.ndarray, heatmap: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """Uint8, 255 at the heatmap's brightest colour."""
    return np.clip(score * (255 / heatmap.GetScalarVolumeDisplayNode().GetWindowLevelMax()), 0, 255).astype(np.uint8)


def _bounding_box(score: np.ndarray) -> list[list[int]]:
    """First and last + 1 index along (k, j, i) of the voxels with a score; nothing outside is ever shown."""
    seen = [np.flatnonzero(score.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    return [[int(where[0]), int(where[-1]) + 1] if where.size else [0, 0] for where in seen]
