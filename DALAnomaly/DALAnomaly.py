"""Brain MRI anomaly detection in 3D Slicer: the classes that Slicer looks for; the rest is in DALAnomalySlicer."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import suppress
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

if importlib.util.find_spec("DALAnomalyLib") is None:  # in a source tree it lies beside this folder
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from DALAnomalySlicer.module_resources import resource
from DALAnomalySlicer.panel import Panel
from DALAnomalySlicer.parameter_node import DALAnomalyParameterNode
from DALAnomalySlicer.processing import Detected, process
from DALAnomalySlicer.sample_scans import register_sample_data
from DALAnomalySlicer.torch_installation import resume_after_restart

RESEARCH_USE = _("Research use only. Not for diagnosis.")


class DALAnomaly(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("Brain MRI Anomaly Detection (DAL)")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Neuroimaging")]
        with suppress(FileNotFoundError):  # Slicer looks beside this file only; a module works without an icon, too
            parent.icon = qt.QIcon(str(resource("Icons/DALAnomaly.png")))
        parent.dependencies = []
        parent.contributors = ["The DALAnomaly developers"]
        parent.helpText = " ".join(
            [
                _("Marks what is unusual in a T1 or T2 scan of the brain, without having been shown lesions."),
                _("The scan is compared with a pseudo-healthy image restored from the edges of its own anatomy."),
                RESEARCH_USE,
            ]
        )
        parent.acknowledgementText = _(
            "An independent implementation of the method of Yang et al., Medical Image Analysis 109:103922, 2026."
        )
        slicer.app.connect("startupCompleted()", register_sample_data)
        slicer.app.connect("startupCompleted()", resume_after_restart)


class DALAnomalyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = DALAnomalyLogic()
        root = slicer.util.loadUI(str(resource("UI/DALAnomaly.ui")))
        self.layout.addWidget(root)
        root.setMRMLScene(slicer.mrmlScene)
        self.panel = Panel(root)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._on_scene_start_close)
        self.addObserver(scene, scene.EndCloseEvent, self._on_scene_changed)
        self.addObserver(scene, scene.EndImportEvent, self._on_scene_changed)

    def enter(self):
        self.panel.use(self.logic.getParameterNode())

    def exit(self):
        self.panel.rest()

    def cleanup(self):
        self.removeObservers()
        if self.panel is not None:
            self.panel.forget()

    def _on_scene_start_close(self, caller, event):
        self.panel.forget()

    def _on_scene_changed(self, caller, event):
        if self.parent.isEntered:
            self.panel.use(self.logic.getParameterNode())


class DALAnomalyLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return DALAnomalyParameterNode(super().getParameterNode())

    def process(
        self,
        inputVolume,
        sequence="auto",
        *,
        brainMask=None,
        mode="full",
        device="auto",
        threshold=None,
        minimumVolume=None,
        onProgress=None,
        onDone=None,
    ) -> Detected | None:
        """Detect anomalies in a volume; see `DALAnomalySlicer.processing.process`."""
        return process(
            inputVolume,
            sequence,
            brain_mask=brainMask,
            mode=mode,
            device=device,
            threshold=threshold,
            minimum_volume_ml=minimumVolume,
            on_progress=onProgress,
            on_done=onDone,
        )


class DALAnomalyTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_sample()

    def test_sample(self):
        """The bundled sample's lesion is found."""
        from DALAnomalySlicer.preflight import torch_version
        from DALAnomalySlicer.sample_scans import load_sample

        if torch_version() is None:
            self.skipTest("needs PyTorch; open the module and click Detect to install it")
        detected = DALAnomalyLogic().process(load_sample("T2"), sequence="T2")
        self.assertIsNotNone(detected.nodes.heatmap)
        self.assertGreater(len(detected.rows), 0)
