"""Taking the result away: images, report, DICOM objects, diagnostics."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalyLib.job.result_folder import is_free
from DALAnomalySlicer.export.diagnostics import diagnostics_text
from DALAnomalySlicer.export.dicom_objects import write_dicom_objects
from DALAnomalySlicer.export.report import write_report
from DALAnomalySlicer.export.volumes import write_volumes
from DALAnomalySlicer.scene_export import context_of

if TYPE_CHECKING:
    from DALAnomalySlicer.detection_result import DetectionResult
    from DALAnomalySlicer.export.export_context import ExportContext
    from DALAnomalySlicer.live_findings import LiveFindings
    from DALAnomalySlicer.parameter_node import DALAnomalyParameterNode
    from DALAnomalySlicer.run_section import RunSection


class ExportSection:
    """Asks where to write, writes, and says what was written.

    Attributes:
        ask_folder, ask_file: how the user is asked; "" when the user thinks better of it.
    """

    def __init__(self, ui: Any, run: RunSection) -> None:
        """Connect the section's widgets; nothing but diagnostics works until there is a result, see `show`.

        Args:
            ui: the widgets by name.
            run: knows what the last run failed with.
        """
        self.ask_folder: Callable[[str], str] = _ask_folder
        self.ask_file: Callable[[str, str, str], str] = _ask_file
        self._ui = ui
        self._run = run
        self._scan: slicer.vtkMRMLScalarVolumeNode | None = None
        self._result: DetectionResult | None = None
        self._live: LiveFindings | None = None
        self._parameters: DALAnomalyParameterNode | None = None
        ui.exportImagesButton.connect("clicked()", self._export_images)
        ui.exportReportButton.connect("clicked()", self._export_report)
        ui.exportDicomButton.connect("clicked()", self._export_dicom)
        ui.diagnosticsButton.connect("clicked()", self._copy_diagnostics)
        self.clear()

    def show(
        self,
        scan: slicer.vtkMRMLScalarVolumeNode,
        result: DetectionResult,
        live: LiveFindings,
        parameters: DALAnomalyParameterNode,
    ) -> None:
        """Offer this result."""
        self._scan, self._result, self._live, self._parameters = scan, result, live, parameters
        self._enable(True)

    def clear(self) -> None:
        """There is no result."""
        self._scan = self._result = self._live = self._parameters = None
        self._enable(False)

    def context(self) -> ExportContext:
        """The result as the user judged it."""
        return context_of(self._scan, self._result, self._live)

    def _enable(self, there_is_a_result: bool) -> None:
        for button in (self._ui.exportImagesButton, self._ui.exportReportButton, self._ui.exportDicomButton):
            button.enabled = there_is_a_result

    def _export_images(self) -> None:
        folder = self.ask_folder(_("Folder for the images"))
        if folder:
            target, suffix = _free(Path(folder) / "DALAnomaly images"), self._parameters.imageFormat.value
            self._write(lambda: write_volumes(self.context(), target, suffix), target)

    def _export_dicom(self) -> None:
        folder = self.ask_folder(_("Folder for the DICOM files"))
        if folder:
            target = _free(Path(folder) / "DALAnomaly DICOM")
            self._write(lambda: write_dicom_objects(self.context(), target), target)

    def _export_report(self) -> None:
        path = self.ask_file(_("Report"), "DALAnomaly report.html", _("Web page (*.html)"))
        if path:
            self._write(lambda: write_report(self.context(), Path(path)), Path(path))

    def _write(self, action: Callable[[], object], target: Path) -> None:
        """Do it, and say how it went in the panel; what nobody foresaw gets Slicer's own dialog."""
        with slicer.util.tryWithErrorDisplay(_("The export failed."), waitCursor=True):
            try:
                action()
            except DALAnomalyError as error:
                self._ui.exportLabel.text = str(error)
            else:
                self._ui.exportLabel.text = _("Written to {target}.").format(target=target)

    def _copy_diagnostics(self) -> None:
        result = self._result
        version = f"{slicer.app.majorVersion}.{slicer.app.minorVersion}"
        text = diagnostics_text(
            None if result is None else result.manifest,
            () if result is None else result.warnings,
            self._ui.logText.plainText,
            {"3D Slicer": version, "last error": self._run.last_failure or "none"},
            # the scan of a run that failed has no result, and may be gone
            [self._run.searched, *_names_of_users()],
        )
        slicer.app.clipboard().setText(text)
        self._ui.exportLabel.text = _("Copied; it holds nothing about the patient.")


def _names_of_users() -> list[str]:
    """Names of scans, masks, transforms and sequence browsers: messages may hold them, and they the patient's."""
    kinds = ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLTransformNode", "vtkMRMLSequenceBrowserNode")
    return [node.GetName() for kind in kinds for node in slicer.util.getNodesByClass(kind)]


def _free(folder: Path) -> Path:
    """The folder or, if another export is there, the first of "FOLDER 2", "FOLDER 3", ... without one."""
    numbered = (folder.with_name(f"{folder.name} {number}") for number in itertools.count(2))
    return next(path for path in itertools.chain((folder,), numbered) if is_free(path))


def _ask_folder(title: str) -> str:
    return qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)


def _ask_file(title: str, name: str, kind: str) -> str:
    return qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, name, kind)
