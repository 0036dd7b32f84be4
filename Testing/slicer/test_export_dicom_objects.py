import tempfile
import unittest
from pathlib import Path

from pydicom import dcmread

from DALAnomalyLib.errors import InputError, OutputError
from DALAnomalySlicer.export.dicom_objects import write_dicom_objects
from Testing.slicer.export_phantom import context_of, scan_with, write_source

RUNS_IN_SLICER = True


class DicomObjectsTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.scan = scan_with()
        self.files = write_source(self.folder / "source", self.scan)

    def test_three_series_of_one_study(self):
        names = write_dicom_objects(context_of(self.scan, dicom_files=self.files), self.folder / "out")
        assert names == ("measurements.dcm", "parametric_map.dcm", "segmentation.dcm")
        objects = [dcmread(self.folder / "out" / name) for name in names]
        assert [data_set.Modality for data_set in objects] == ["SR", "OT", "SEG"]
        assert {data_set.StudyInstanceUID for data_set in objects} == {"1.2"}
        assert len({data_set.SeriesInstanceUID for data_set in objects} | {"1.2.3"}) == 4

    def test_without_findings_only_the_map(self):
        context = context_of(self.scan, ("dismissed", "dismissed"), self.files)
        assert write_dicom_objects(context, self.folder / "out") == ("parametric_map.dcm",)

    def test_refusal_leaves_no_folder(self):
        with self.assertRaisesRegex(InputError, "have no source image"):
            write_dicom_objects(context_of(self.scan, dicom_files=self.files[1:]), self.folder / "out")
        assert [path.name for path in self.folder.iterdir()] == ["source"]

    def test_older_export_is_replaced_and_nothing_else(self):
        context = context_of(self.scan, dicom_files=self.files)
        write_dicom_objects(context, self.folder / "out")
        write_dicom_objects(context_of(self.scan, ("dismissed", "dismissed"), self.files), self.folder / "out")
        assert [path.name for path in (self.folder / "out").iterdir()] == ["parametric_map.dcm"]
        (self.folder / "out" / "notes.txt").write_text("mine")
        with self.assertRaisesRegex(OutputError, "notes.txt"):
            write_dicom_objects(context, self.folder / "out")
