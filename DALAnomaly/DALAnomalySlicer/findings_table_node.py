"""The findings table as a node, for the user to see, copy and save with the scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import slicer
import vtk
from slicer.i18n import tr as _

if TYPE_CHECKING:
    from DALAnomalySlicer.finding_context import FindingRow


def write_rows(node: slicer.vtkMRMLTableNode, rows: Sequence[FindingRow]) -> None:
    """Replace the table's content; it is locked, because editing it would change nothing else."""
    table = vtk.vtkTable()
    for title, array, value in _columns():
        array.SetName(title)
        array.SetNumberOfValues(len(rows))
        for number, row in enumerate(rows):
            array.SetValue(number, value(row))
        table.AddColumn(array)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)
    node.SetAndObserveTable(table)


def _columns() -> list[tuple[str, vtk.vtkAbstractArray, Callable[[FindingRow], Any]]]:
    return [
        (_("Finding"), vtk.vtkIntArray(), lambda row: row.number),
        (_("Volume (ml)"), vtk.vtkDoubleArray(), lambda row: row.volume_ml),
        (_("Peak score"), vtk.vtkDoubleArray(), lambda row: row.peak),
        (_("Mean score"), vtk.vtkDoubleArray(), lambda row: row.mean),
        (_("Tissue"), vtk.vtkStringArray(), lambda row: row.tissue),
        (_("Side"), vtk.vtkStringArray(), lambda row: row.side),
        (_("Extent i (mm)"), vtk.vtkDoubleArray(), lambda row: row.extent_mm[0]),
        (_("Extent j (mm)"), vtk.vtkDoubleArray(), lambda row: row.extent_mm[1]),
        (_("Extent k (mm)"), vtk.vtkDoubleArray(), lambda row: row.extent_mm[2]),
        (_("R (mm)"), vtk.vtkDoubleArray(), lambda row: row.centroid_ras[0]),
        (_("A (mm)"), vtk.vtkDoubleArray(), lambda row: row.centroid_ras[1]),
        (_("S (mm)"), vtk.vtkDoubleArray(), lambda row: row.centroid_ras[2]),
        (_("Status"), vtk.vtkStringArray(), lambda row: row.status),
    ]
