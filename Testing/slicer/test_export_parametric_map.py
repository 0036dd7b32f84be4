import tempfile
import unittest
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.config import disable_value_validation

from DALAnomalySlicer.export.parametric_map import write_parametric_map
from Testing.lib.dicom_phantom import enhanced, save
from Testing.slicer.export_phantom import DIRECTIONS, FRAME, context_of, frame_points, scan_with, write_source

RUNS_IN_SLICER = True


class ParametricMapTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def written(self, scan, files):
        write_parametric_map(context_of(scan, dicom_files=files), self.folder / "map.dcm")
        return dcmread(self.folder / "map.dcm")

    def on_the_grid(self, parametric_map, scan):
        """The map's values at the voxels of the scan, by their places in space alone."""
        found = np.full(scan.grid.shape, np.nan, np.float32)
        for index, pixels in enumerate(parametric_map.pixel_array):
            voxels = np.rint(scan.grid.physical_to_index(frame_points(parametric_map, index))).astype(int)
            found[tuple(np.moveaxis(voxels, -1, 0))] = pixels
        return found

    def test_score_lies_where_it_was_found(self):
        for name, direction in DIRECTIONS.items():
            with self.subTest(name):
                scan = scan_with(direction)
                parametric_map = self.written(scan, write_source(self.folder / name, scan))
                np.testing.assert_array_equal(self.on_the_grid(parametric_map, scan), context_of(scan).result.score)

    def test_what_scanners_write_beside_the_standard_is_no_hindrance(self):
        scan = scan_with(DIRECTIONS["oblique"])
        korean = "Hong^Gildong=洪^吉洞=홍^길동"
        written = (["", "ISO 2022 IR 149"], korean), ("", "Hong^Gildong"), ("ISO_IR 100", "Müller^J")
        for number, (sets, name) in enumerate(written):
            with self.subTest(sets=sets):
                files = write_source(self.folder / str(number), scan)
                for file in files:
                    image = dcmread(file)
                    with disable_value_validation():
                        image.SpecificCharacterSet, image.PatientName, image.PatientSex = sets, name, "U"
                        image.save_as(file)
                parametric_map = self.written(scan, files)
                self.assertEqual(str(parametric_map.PatientName), name)
                self.assertEqual(parametric_map.PatientSex, "")
                self.assertEqual(parametric_map.SpecificCharacterSet, "ISO_IR 192")

    def test_what_anonymisation_leaves_of_dates_is_no_hindrance(self):
        scan = scan_with(DIRECTIONS["oblique"])
        names = ("PatientBirthDate", "StudyDate", "StudyTime")
        written = ("19700000", "2020-01-01", "10:10:10"), ("ANONYMIZED", "20200101", "101010.5")
        for number, values in enumerate(written):
            files = write_source(self.folder / str(number), scan)
            for file in files:
                image = dcmread(file)
                with disable_value_validation():
                    for name, value in zip(names, values, strict=True):
                        setattr(image, name, value)
                    image.save_as(file)
            parametric_map = self.written(scan, files)
            expected = ("", *values[1:]) if number else ("", "", "")
            self.assertEqual(tuple(parametric_map[name].value or "" for name in names), expected)

    def test_elements_that_may_be_empty_but_not_absent_are_there(self):
        scan = scan_with(DIRECTIONS["oblique"])
        parametric_map = self.written(scan, write_source(self.folder, scan))
        self.assertEqual(parametric_map["ContentCreatorName"].value, "")

    def test_frames_are_stored_along_their_normal(self):
        for name in ("oblique", "slices reversed"):
            with self.subTest(name):
                scan = scan_with(DIRECTIONS[name])
                parametric_map = self.written(scan, write_source(self.folder / name, scan))
                orientation = parametric_map.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
                normal = np.cross(*np.reshape(orientation.ImageOrientationPatient, (2, 3)).astype(float))
                frames = parametric_map.PerFrameFunctionalGroupsSequence
                along = [np.dot(frame.PlanePositionSequence[0].ImagePositionPatient, normal) for frame in frames]
                np.testing.assert_allclose(np.diff(along), 7.0, atol=1e-3)
                indices = [frame.FrameContentSequence[0].DimensionIndexValues for frame in frames]
                assert indices == list(range(1, 25))

    def test_multi_frame_source_in_falling_order(self):
        scan = scan_with(DIRECTIONS["oblique"])
        image = enhanced(scan, FrameOfReferenceUID=FRAME)
        image.PerFrameFunctionalGroupsSequence = list(image.PerFrameFunctionalGroupsSequence)[::-1]
        parametric_map = self.written(scan, [save(image, self.folder / "enhanced.dcm")])
        np.testing.assert_array_equal(self.on_the_grid(parametric_map, scan), context_of(scan).result.score)

    def test_stored_values_are_the_score(self):
        scan = scan_with()
        parametric_map = self.written(scan, write_source(self.folder / "source", scan))
        shared = parametric_map.SharedFunctionalGroupsSequence[0]
        (mapping,) = shared.RealWorldValueMappingSequence
        assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
        mapped = (
            mapping.DoubleFloatRealWorldValueFirstValueMapped,
            mapping.DoubleFloatRealWorldValueLastValueMapped,
        )
        np.testing.assert_allclose(mapped, (0.01, 0.9), rtol=1e-6)
        assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
        quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
        assert (quantity.CodeMeaning, quantity.CodingSchemeDesignator) == ("Anomaly score", "99DALANOMALY")

    def test_window_narrower_than_one_is_allowed(self):
        scan = scan_with()
        parametric_map = self.written(scan, write_source(self.folder / "source", scan))
        (window,) = parametric_map.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence
        np.testing.assert_allclose((float(window.WindowCenter), float(window.WindowWidth)), (0.45, 0.9), rtol=1e-6)
        assert window.VOILUTFunction == "LINEAR_EXACT"

    def test_it_is_for_research_and_refers_to_its_source(self):
        scan = scan_with()
        parametric_map = self.written(scan, write_source(self.folder / "source", scan))
        assert "Research use only" in parametric_map.SeriesDescription
        assert parametric_map.ContentQualification == "RESEARCH"
        sources = {image.SOPInstanceUID for image in map(dcmread, (self.folder / "source").iterdir())}
        references = parametric_map.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert {reference.ReferencedSOPInstanceUID for reference in references} == sources
