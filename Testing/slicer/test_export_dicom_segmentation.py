import tempfile
import unittest
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
from pydicom import dcmread

from DALAnomalyLib.errors import InputError, OutputError
from DALAnomalySlicer.export.dicom_segmentation import write_segmentation
from Testing.lib.dicom_phantom import enhanced, save
from Testing.slicer.export_phantom import (
    DIRECTIONS,
    FRAME,
    MODEL_DIGEST,
    context_of,
    frame_points,
    in_order,
    places,
    scan_with,
    write_source,
)

RUNS_IN_SLICER = True


def segment_shown(segmentation, frame):
    """Number of the segment that a frame shows; if there is only one, highdicom says it once for all."""
    own, shared = segmentation.PerFrameFunctionalGroupsSequence[frame], segmentation.SharedFunctionalGroupsSequence[0]
    holder = own if "SegmentIdentificationSequence" in own else shared
    return holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber


class SegmentationTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def written(self, scan, statuses=("", ""), files=None, **elements):
        """The segmentation of a context that came from a series."""
        files = files or write_source(self.folder / "source", scan, **elements)
        write_segmentation(context_of(scan, statuses, files), self.folder / "seg.dcm")
        return dcmread(self.folder / "seg.dcm")

    def segment_places(self, segmentation, number):
        """LPS mm of the voxels of a segment, from the file alone."""
        pictures = enumerate(segmentation.pixel_array)
        numbers = [segment_shown(segmentation, index) for index in range(segmentation.NumberOfFrames)]
        points = [
            frame_points(segmentation, index)[pixels > 0] for index, pixels in pictures if numbers[index] == number
        ]
        return in_order(np.concatenate(points))

    def assert_findings_in_place(self, scan, segmentation):
        labels = context_of(scan).labels.array
        for number in (1, 2):
            expected = places(scan, labels == number)
            np.testing.assert_allclose(self.segment_places(segmentation, number), expected, atol=0.02)

    def test_findings_lie_where_they_were_found(self):
        for name, direction in DIRECTIONS.items():
            with self.subTest(name):
                scan = scan_with(direction)
                files = write_source(self.folder / name, scan)
                self.assert_findings_in_place(scan, self.written(scan, files=files))

    def test_every_frame_refers_to_the_source_image_at_its_place(self):
        scan = scan_with(DIRECTIONS["slices reversed"])
        segmentation = self.written(scan)
        sources = {image.SOPInstanceUID: image for image in map(dcmread, (self.folder / "source").iterdir())}
        for frame in segmentation.PerFrameFunctionalGroupsSequence:
            (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
            source = sources[reference.ReferencedSOPInstanceUID]
            assert frame.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
        assert segmentation["ContentCreatorName"].value == ""  # to be there, if empty
        assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3"

    def test_multi_frame_source(self):
        scan = scan_with(DIRECTIONS["oblique"])
        file = save(enhanced(scan, FrameOfReferenceUID=FRAME), self.folder / "enhanced.dcm")
        segmentation = self.written(scan, files=[file])
        self.assert_findings_in_place(scan, segmentation)
        labels = context_of(scan).labels.array
        first = segmentation.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
        assert first.ReferencedFrameNumber - 1 in np.flatnonzero((labels == 1).any(axis=(1, 2)))

    def test_multi_frame_source_that_keeps_its_geometry_per_frame(self):
        scan = scan_with(DIRECTIONS["oblique"])
        image = enhanced(scan, FrameOfReferenceUID=FRAME)
        shared = image.SharedFunctionalGroupsSequence[0]
        for frame in image.PerFrameFunctionalGroupsSequence:
            frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
            frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
        del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
        file = save(image, self.folder / "enhanced.dcm")
        self.assert_findings_in_place(scan, self.written(scan, files=[file]))

    def test_segments_say_what_they_are(self):
        segmentation = self.written(scan_with(), ("", "marked"))
        first, second = segmentation.SegmentSequence
        assert (first.SegmentLabel, second.SegmentLabel) == ("Finding 1", "Finding 2 (marked)")
        category, kind = first.SegmentedPropertyCategoryCodeSequence[0], first.SegmentedPropertyTypeCodeSequence[0]
        assert (category.CodeValue, category.CodingSchemeDesignator) == ("49755003", "SCT")
        assert (kind.CodeValue, kind.CodeMeaning) == ("52988006", "Lesion")
        assert first.SegmentAlgorithmType == "AUTOMATIC"
        algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
        assert algorithm.AlgorithmName == "DALAnomaly"
        assert f"model SHA-256={MODEL_DIGEST}" in algorithm.AlgorithmParameters
        assert first.TrackingUID != second.TrackingUID

    def test_series_is_for_research_and_belongs_to_the_patient(self):
        segmentation = self.written(scan_with())
        assert "Research use only" in segmentation.SeriesDescription
        assert segmentation.ContentDescription == "Research use only. Not for diagnosis."
        assert (segmentation.PatientID, segmentation.StudyInstanceUID) == ("PID-4711", "1.2")
        assert segmentation.FrameOfReferenceUID == FRAME
        assert segmentation.SeriesInstanceUID != "1.2.3"

    def test_dismissed_findings_are_left_out(self):
        scan = scan_with()
        segmentation = self.written(scan, ("dismissed", ""))
        (only,) = segmentation.SegmentSequence
        assert (only.SegmentNumber, only.SegmentLabel) == (1, "Finding 2")
        expected = places(scan, context_of(scan).labels.array == 2)
        np.testing.assert_allclose(self.segment_places(segmentation, 1), expected, atol=0.02)

    def test_no_finding_left_is_said(self):
        with self.assertRaisesRegex(InputError, "no finding is left"):
            self.written(scan_with(), ("dismissed", "dismissed"))
        assert not (self.folder / "seg.dcm").exists()

    def test_name_in_another_alphabet_survives(self):
        name = "Παπαδόπουλος^Γιώργος"
        segmentation = self.written(scan_with(), SpecificCharacterSet="ISO_IR 126", PatientName=name)
        assert segmentation.PatientName == name

    def test_name_is_neither_logged_nor_warned_about(self):
        with warnings.catch_warnings(record=True) as said, self.assertNoLogs():
            warnings.simplefilter("always")
            self.written(scan_with(), PatientName="Doe")  # highdicom quotes names without a given name
        assert not [warning for warning in said if "Doe" in str(warning.message)]

    def test_missing_highdicom_is_said(self):
        with mock.patch.dict("sys.modules", highdicom=None), self.assertRaisesRegex(OutputError, "needs? .*highdicom"):
            self.written(scan_with())

    def test_failed_write_leaves_nothing(self):
        scan = scan_with()
        files = write_source(self.folder / "source", scan)
        with self.assertRaisesRegex(OutputError, "cannot be written"):
            write_segmentation(context_of(scan, dicom_files=files), self.folder / "absent" / "seg.dcm")
        assert [path.name for path in self.folder.iterdir()] == ["source"]
