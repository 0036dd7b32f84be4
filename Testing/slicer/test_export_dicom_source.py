import unittest
from pathlib import Path
from unittest import mock

import slicer

from DALAnomalySlicer.export.dicom_source import source_files

RUNS_IN_SLICER = True


class Database:
    """Knows the files of two instances; the real one is Qt's and needs files that have been imported."""

    def fileForInstance(self, uid: str) -> str:
        return {"1.2.3.1": "/archive/a", "1.2.3.2": "/archive/b"}.get(uid, "")


class DicomSourceTest(unittest.TestCase):
    def setUp(self) -> None:
        self.node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")

    def files(self, uids, database):
        if uids is not None:
            self.node.SetAttribute("DICOM.instanceUIDs", uids)
        with mock.patch.object(slicer, "dicomDatabase", database, create=True):
            return source_files(self.node)

    def test_files_of_the_slices(self):
        assert self.files("1.2.3.1 1.2.3.2", Database()) == (Path("/archive/a"), Path("/archive/b"))

    def test_unknown_slices_are_left_out(self):
        assert self.files("1.2.3.2 1.2.3.9", Database()) == (Path("/archive/b"),)

    def test_volume_that_is_not_from_dicom(self):
        assert self.files(None, Database()) == ()

    def test_no_database(self):
        assert self.files("1.2.3.1", None) == ()
