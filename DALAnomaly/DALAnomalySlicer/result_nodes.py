"""The result of a detection as MRML nodes, beside the scan in the subject hierarchy, on its grid, under its transform.

Running again updates the nodes that are there; those that the user has removed are made anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from DALAnomalyLib.errors import GeometryError
from DALAnomalySlicer.chosen_threshold import choice_of, store_choice
from DALAnomalySlicer.drawn_findings import keep_drawing
from DALAnomalySlicer.findings_table_node import write_rows
from DALAnomalySlicer.heatmap_display import display_heatmap
from DALAnomalySlicer.live_findings import LiveFindings
from DALAnomalySlicer.node_roles import results_of
from DALAnomalySlicer.result_builder import ResultBuilder, SegmentationLook
from DALAnomalySlicer.scan_volume import check_scan
from DALAnomalySlicer.segment_terms import ANOMALY, BRAIN, EDGES, TISSUES
from DALAnomalySlicer.stored_result import read_stored_result, store_summary
from DALAnomalySlicer.subject_folder import put_beside_scan, remove_empty_folder

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult


@dataclass(frozen=True)
class ResultNodes:
    """The nodes of one result; None where the user has removed one.

    Attributes:
        heatmap: scalar volume, the anomaly score.
        pseudo_healthy: scalar volume in the scan's intensity units.
        uncertainty: scalar volume on the model's standard scale, which the user shows from the Data module; None where
            the model takes one view only.
        tissues: segmentation of CSF, grey and white matter.
        edges: segmentation. No label map, which would occupy the label layer of the slice views: edges can lie over the
            scan and over the pseudo-healthy image side by side, in crisp voxels, without taking a layer from either.
        brain_mask: segmentation.
        findings: segmentation with one segment "Anomaly" for all findings: its label map is changed in place while the
            threshold moves. A segment per finding would have to be made and unmade at every step, which takes seconds
            with a hundred of them; findings are told apart in the table.
        manifest: text, how the result came about.
        table: the findings table.
    """

    heatmap: slicer.vtkMRMLScalarVolumeNode | None = None
    pseudo_healthy: slicer.vtkMRMLScalarVolumeNode | None = None
    uncertainty: slicer.vtkMRMLScalarVolumeNode | None = None
    tissues: slicer.vtkMRMLSegmentationNode | None = None
    edges: slicer.vtkMRMLSegmentationNode | None = None
    brain_mask: slicer.vtkMRMLSegmentationNode | None = None
    findings: slicer.vtkMRMLSegmentationNode | None = None
    manifest: slicer.vtkMRMLTextNode | None = None
    table: slicer.vtkMRMLTableNode | None = None

    @property
    def complete(self) -> bool:
        """Whether none is missing of those that every model gives."""
        return all(node is not None for role, node in vars(self).items() if role != "uncertainty")


def update_results(
    scan_node: slicer.vtkMRMLScalarVolumeNode, result: DetectionResult, nodes: ResultNodes | None = None
) -> ResultNodes:
    """Show a result as nodes, all of them present afterwards; findings and table are empty as yet (`LiveFindings`).

    What someone drew in the findings is kept, see `drawn_findings`.

    Args:
        scan_node: the scan that was searched.
        result: what was found; its arrays lie on the scan's grid.
        nodes: those to update; others are taken from what the scene holds for the scan.

    Raises:
        GeometryError: the scan was replaced by one of another size since the detection began, or bent or sheared.
    """
    _check_fits(scan_node, result)
    known = results_of(scan_node) | _still_there(nodes or ResultNodes())
    outdated = {"difference"} | ({"uncertainty"} if result.uncertainty is None else set())
    for role in outdated & known.keys():  # of an earlier result; a difference is made again when it is asked for
        _remove(known.pop(role))
    if "findings" in known:
        keep_drawing(known["findings"], known.get("heatmap", scan_node), scan_node)
    build = ResultBuilder(scan_node, known)
    updated = ResultNodes(
        heatmap=build.volume("heatmap", _("anomaly score"), result.score),
        pseudo_healthy=build.volume("pseudo_healthy", _("pseudo-healthy"), result.pseudo_healthy),
        uncertainty=None
        if result.uncertainty is None
        else build.volume("uncertainty", _("uncertainty"), result.uncertainty),
        tissues=build.segmentation("tissues", _("tissues"), result.tissues, TISSUES, SegmentationLook(fill=0.35)),
        edges=build.segmentation("edges", _("edges"), result.edges, (EDGES,), SegmentationLook(fill=1.0)),
        brain_mask=build.segmentation("brain_mask", _("brain mask"), result.brain_mask, (BRAIN,), SegmentationLook()),
        findings=build.segmentation(
            "findings",
            _("findings"),
            np.zeros_like(result.brain_mask),
            (ANOMALY,),
            SegmentationLook(visible=True),
        ),
        manifest=build.node("manifest", _("manifest"), "vtkMRMLTextNode"),
        table=build.node("table", _("findings table"), "vtkMRMLTableNode"),
    )
    _take_over_window(updated.pseudo_healthy, scan_node)
    display_heatmap(updated.heatmap, result)
    store_summary(updated.heatmap, result)
    store_choice(updated.heatmap, None)
    updated.manifest.SetText(json.dumps(result.manifest, indent=2))
    write_rows(updated.table, ())
    put_beside_scan(build.new_nodes, scan_node)
    return updated


def find_results(scan_node: slicer.vtkMRMLScalarVolumeNode) -> ResultNodes | None:
    """The nodes that the scene holds for a scan, also after it was saved and reopened; None if there is none."""
    found = results_of(scan_node)
    nodes = ResultNodes(**{field.name: found.get(field.name) for field in fields(ResultNodes)})
    return None if nodes == ResultNodes() else nodes


def stored_result(scan_node: slicer.vtkMRMLScalarVolumeNode, nodes: ResultNodes) -> tuple[ResultNodes, DetectionResult]:
    """A result that the scene holds, and its nodes, which follow where the scan was moved meanwhile.

    Raises:
        InputError: the user has removed a node that is needed, or it holds nothing.
        GeometryError: the scan was replaced by one of another size, or bent or sheared.
    """
    result = read_stored_result(nodes)
    _check_fits(scan_node, result)
    if all(_lies_like(node, scan_node) for node in vars(nodes).values()):
        return nodes, result
    choice = choice_of(nodes.heatmap, result)
    # the voxels of the volumes are about to be written over
    copies = {name: value.copy() for name, value in vars(result).items() if isinstance(value, np.ndarray)}
    result = replace(result, **copies)
    moved = update_results(scan_node, result, nodes)
    LiveFindings(moved, result).update(choice.threshold, choice.minimum_volume_ml)
    return moved, result


def remove_results(scan_node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Remove all results of a scan from the scene, and their folder unless something else lies in it."""
    for node in results_of(scan_node).values():
        _remove(node)
    remove_empty_folder(scan_node)


def _remove(node: slicer.vtkMRMLStorableNode) -> None:
    for companion in _companions(node):
        slicer.mrmlScene.RemoveNode(companion)
    slicer.mrmlScene.RemoveNode(node)


def _companions(node: slicer.vtkMRMLStorableNode) -> list[slicer.vtkMRMLNode]:
    """Display and storage nodes of a node, which would stay behind."""
    companions = [node.GetStorageNode()]
    if node.IsA("vtkMRMLDisplayableNode"):
        companions += [node.GetNthDisplayNode(number) for number in range(node.GetNumberOfDisplayNodes())]
    return [companion for companion in companions if companion is not None]


def _still_there(nodes: ResultNodes) -> dict[str, slicer.vtkMRMLNode]:
    return {
        role: node for role, node in vars(nodes).items() if node is not None and node.GetScene() is slicer.mrmlScene
    }


def _lies_like(node: slicer.vtkMRMLNode | None, scan_node: slicer.vtkMRMLScalarVolumeNode) -> bool:
    """Whether a node is under the scan's transform and, a volume, on its grid; what has no place, lies everywhere."""
    if node is None or not node.IsA("vtkMRMLTransformableNode"):
        return True
    if node.GetTransformNodeID() != scan_node.GetTransformNodeID():
        return False
    return not node.IsA("vtkMRMLVolumeNode") or np.allclose(_ijk_to_ras(node), _ijk_to_ras(scan_node), atol=1e-4)


def _ijk_to_ras(volume: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _check_fits(scan_node: slicer.vtkMRMLScalarVolumeNode, result: DetectionResult) -> None:
    image = scan_node.GetImageData()
    shape = None if image is None else tuple(reversed(image.GetDimensions()))
    if shape != result.score.shape:
        msg = _('"{name}" is {shape} voxels (k, j, i) but its result {result}: the scan was replaced; detect again.')
        raise GeometryError(msg.format(name=scan_node.GetName(), shape=shape, result=result.score.shape))
    check_scan(scan_node)  # it may have come under a transform that bends or shears; nothing has been changed yet


def _take_over_window(
    pseudo_healthy: slicer.vtkMRMLScalarVolumeNode, scan_node: slicer.vtkMRMLScalarVolumeNode
) -> None:
    """Show the pseudo-healthy image in the scan's own window, so that both look alike where they are alike."""
    source, target = scan_node.GetScalarVolumeDisplayNode(), pseudo_healthy.GetScalarVolumeDisplayNode()
    if source is None:  # a scan that was never shown has no window yet
        return
    target.AutoWindowLevelOff()
    target.SetWindowLevel(source.GetWindow(), source.GetLevel())
    target.SetAndObserveColorNodeID(source.GetColorNodeID())
    target.SetInterpolate(source.GetInterpolate())
