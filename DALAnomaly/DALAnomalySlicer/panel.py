"""The module's panel: one scan, one run, one result at a time."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from DALAnomalyLib.errors import DALAnomalyError
from DALAnomalySlicer.compare_section import CompareSection
from DALAnomalySlicer.detection_result import DetectionResult
from DALAnomalySlicer.detection_run import RunOptions
from DALAnomalySlicer.drawn_findings import newly_kept
from DALAnomalySlicer.export_section import ExportSection
from DALAnomalySlicer.findings_outline import hide_outline
from DALAnomalySlicer.findings_section import FindingsSection
from DALAnomalySlicer.parameter_node import DALAnomalyParameterNode, Sequence
from DALAnomalySlicer.processing import RESULT_EVENT, show_findings
from DALAnomalySlicer.result_nodes import ResultNodes, find_results, stored_result, update_results
from DALAnomalySlicer.run_section import RunSection
from DALAnomalySlicer.sample_scans import load_sample
from DALAnomalySlicer.scan_section import ScanSection
from DALAnomalySlicer.side_by_side import register_layout
from DALAnomalySlicer.torch_installation import Confirm, install_torch


class Panel(VTKObservationMixin):
    """Connects the sections: a run's result goes to findings, comparison and export.

    Attributes:
        parameters: the choices that are followed; None while another module is shown.
        confirm: how the user is asked before anything is installed.
    """

    def __init__(self, root: Any, confirm: Confirm = slicer.util.confirmOkCancelDisplay) -> None:
        """Take the widgets below `root`; see `use`."""
        super().__init__()
        register_layout()
        ui = slicer.util.childWidgetVariables(root)
        self.confirm = confirm
        self.ui = ui
        self.scan = ScanSection(ui)
        self.run = RunSection(ui, self._on_result)
        self.compare = CompareSection(ui)
        self.findings = FindingsSection(ui, self.compare.findings_changed)
        self.export = ExportSection(ui, self.run)
        self.parameters: DALAnomalyParameterNode | None = None
        self._connection: int | None = None
        self._shown_scan: slicer.vtkMRMLScalarVolumeNode | None = None
        self._result_tag: int | None = None  # of the observer of that scan
        self._outdated = False  # whether the views show an older result of this scan
        self._asked = RunOptions()  # of the last run; the choices may change meanwhile
        self._finished: slicer.vtkMRMLScalarVolumeNode | None = None  # whose result was announced
        ui.detectButton.connect("clicked()", self.detect_or_cancel)
        ui.sampleButton.connect("clicked()", self.try_sample)
        self._shortcuts = [
            _shortcut(root, key, action)
            for key, action in (
                ("N", self.findings.next),
                ("P", self.findings.previous),
                ("Shift+F", self.compare.flicker),  # slice views take F for the next slice
            )
        ]

    def use(self, parameters: DALAnomalyParameterNode) -> None:
        """Follow these choices, and show the result that the scene holds for their scan."""
        self.rest()
        self.parameters = parameters
        # not `connectGui`, which does the same but returns no tag to disconnect by (Slicer issue 7547)
        self._connection = parameters.connectParametersToGui(_named_widgets(self.ui))
        self.scan.use(parameters)
        self.addObserver(parameters.parameterNode, "ModifiedEvent", self._on_choice)
        self._show_stored_result()
        for shortcut in self._shortcuts:
            shortcut.setEnabled(True)

    def rest(self) -> None:
        """Follow nothing, as when another module is shown; a run goes on."""
        self.removeObservers()
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
        if self.parameters is not None:
            self.parameters.disconnectGui(self._connection)
            self.parameters = None
            self.scan.use(None)

    def forget(self) -> None:
        """The scene closes: stop what is running, and let go of its nodes."""
        self.run.cancel()
        self.rest()
        self._finished = None
        self.run.withdraw()
        self._show_nothing(None)

    def detect_or_cancel(self) -> None:
        """The button: begin, or stop what was begun."""
        if self.run.running:
            self.run.cancel()
        elif self._torch_is_there() and self.parameters is not None:  # while it was installed, the user may have left
            self._finished = None
            self._asked = self.scan.options()
            self.run.start(self.parameters.inputVolume, self._asked)

    def try_sample(self) -> None:
        """Load the bundled scan and detect its lesion."""
        if not self.run.running:
            self.parameters.inputVolume = load_sample("T2")
            self.parameters.sequence = Sequence.AUTO
            self.parameters.brainMask = None  # of the user's own scan
            self.detect_or_cancel()

    def _torch_is_there(self) -> bool:
        self.scan.look_again()
        if self.scan.torch_installed:
            return True
        buttons = (self.ui.detectButton, self.ui.sampleButton)
        for button in buttons:  # Slicer goes on meanwhile
            button.enabled = False
        try:
            installed = install_torch(self._confirm_installation)
        except DALAnomalyError as error:
            self.run.on_failure(str(error), "")
            return False
        finally:
            for button in buttons:
                button.enabled = True
        self.run.withdraw()
        self.scan.look_again()
        return installed

    def _confirm_installation(self, question: str) -> bool:
        agreed = self.confirm(question)
        if agreed:
            self.run.announce(_("PyTorch is being installed, which can take minutes ..."))
        return agreed

    def _on_choice(self, caller: Any, event: Any) -> None:
        self.scan.refresh()
        if self.parameters.inputVolume is not self._shown_scan:
            if self._finished is None or self._finished.GetScene() is None:
                self.run.withdraw()  # how the run of another scan failed, or what cannot be chosen any more
            self._show_stored_result()

    def _on_result(self, scan: slicer.vtkMRMLScalarVolumeNode, result: DetectionResult, seconds: float) -> None:
        nodes = update_results(scan, result, find_results(scan))
        self.scan.remember_seconds(seconds, self._asked)
        if self.parameters is None or self.parameters.inputVolume is not scan:
            show_findings(nodes, result)
            self._outdated = self._outdated or scan is self._shown_scan
            if scan is not self._shown_scan:
                hide_outline(nodes.findings)
            self._finished = scan
            self.run.announce(_('"{scan}" is done; choose it to see its result.').format(scan=scan.GetName()))
            return
        self._show(scan, nodes, result, anew=True)
        said = _("{comparison} Done in {seconds:.0f} s.").format(comparison=_comparison(result), seconds=seconds)
        self.run.say(said, result.sequence_evidence)

    def _on_result_of_script(self, caller: Any, event: Any) -> None:
        self._outdated = True
        if self.parameters is not None:
            self._show_stored_result()

    def _show_stored_result(self) -> None:
        """What the scene holds for the chosen scan, as after reopening it."""
        scan = self.parameters.inputVolume
        nodes = None if scan is None else find_results(scan)
        if nodes is None:
            self._show_nothing(scan)
            return
        try:
            self._show(scan, *stored_result(scan, nodes), anew=self._outdated)
        except DALAnomalyError as error:
            self._show_nothing(scan)
            self.run.show_warnings((str(error),))

    def _show(
        self, scan: slicer.vtkMRMLScalarVolumeNode, nodes: ResultNodes, result: DetectionResult, anew: bool
    ) -> None:
        self._outdated = False
        self._follow(scan)
        if self._finished is scan:
            self._finished = None
            self.run.withdraw()
        self.findings.show(nodes, result)
        self.compare.show(scan, nodes, self.parameters, anew)
        self.export.show(scan, result, self.findings.live, self.parameters)
        self.run.say(_comparison(result), result.sequence_evidence)
        kept = newly_kept(nodes.findings)
        said = _('What was drawn in the findings is kept as "{name}".')
        self.run.show_warnings((*result.warnings, *([] if kept is None else [said.format(name=kept.GetName())])))

    def _show_nothing(self, scan: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        """Of this scan there is no result."""
        self._follow(scan)
        for section in (self.findings, self.compare, self.export):
            section.clear()
        self.run.say("")
        self.run.show_warnings(())

    def _follow(self, scan: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        """This scan is shown: a script may search it, too, even while another module is shown."""
        # not `addObserver`, which would keep every scan in memory that was ever shown
        if self._shown_scan is not None:
            self._shown_scan.RemoveObserver(self._result_tag)
        self._shown_scan = scan
        self._result_tag = None if scan is None else scan.AddObserver(RESULT_EVENT, self._on_result_of_script)


def _comparison(result: DetectionResult) -> str:
    return _("Compared with a healthy {sequence}.").format(sequence=result.sequence)


def _named_widgets(ui: Any) -> dict[str, Any]:
    """The widgets that name a parameter in the .ui file, by that name."""
    named = {widget.property("SlicerParameterName"): widget for widget in vars(ui).values()}
    return {name: widget for name, widget in named.items() if name}


def _shortcut(root: Any, key: str, action: Any) -> Any:
    """A key that works wherever the keyboard is, in the slice views above all; enabled while the panel is shown."""
    shortcut = qt.QShortcut(slicer.util.mainWindow() or root)
    shortcut.setKey(qt.QKeySequence(key))
    shortcut.connect("activated()", action)
    shortcut.setEnabled(False)
    return shortcut
