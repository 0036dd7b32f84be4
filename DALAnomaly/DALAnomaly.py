"""The 3D Slicer module. In this version it only says where detection can be run: on the command line."""

from __future__ import annotations

from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget

RESEARCH_USE = _("Research use only. Not for diagnosis.")
COMMAND = "dal-anomaly detect SCAN.nii.gz -o RESULTS"


class DALAnomaly(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("Brain MRI Anomaly Detection (DAL)")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Neuroimaging")]
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


class DALAnomalyWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        super().setup()
        import qt  # only here: the file has to load where there is no user interface

        message = _("Detection arrives with the release of this module. Until then, run it on the command line:")
        label = qt.QLabel(f"<p>{message}</p><pre>{COMMAND}</pre><p><b>{RESEARCH_USE}</b></p>")
        label.wordWrap = True
        self.layout.addWidget(label)
        self.layout.addStretch(1)
