import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import dcmread

from DALAnomalyLib.errors import InputError
from DALAnomalyLib.volume import Grid, Volume
from DALAnomalySlicer.export.source_series import read_source_series
from Testing.lib.dicom_phantom import classic, enhanced, save
from Testing.slicer.export_phantom import DIRECTIONS, FRAME, IDENTIFIERS, context_of, scan_with, write_source

RUNS_IN_SLICER = True


class SourceSeriesTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "Doe^Jane"
        self.scan = scan_with(DIRECTIONS["oblique"])

    def source(self, **elements):
        return write_source(self.folder, self.scan, **elements)

    def changed(self, index, **elements):
        """A source of which one image has other elements."""
        files = self.source()
        image = classic(self.scan, index, **{"FrameOfReferenceUID": FRAME, **elements})
        save(image, self.folder / f"IM{index:04}")
        return files

    def assert_refused(self, files, reason, scan=None):
        """The refusal says why and what to do instead, and does not say who the patient is."""
        context = context_of(scan or self.scan, dicom_files=files)
        with self.assertRaisesRegex(InputError, reason) as raised:
            read_source_series(context)
        assert "export NIfTI instead" in str(raised.exception)
        assert not [word for word in IDENTIFIERS if word in str(raised.exception)]

    def test_images_come_in_the_order_of_their_normal(self):
        for name, slices in (("oblique", range(24)), ("slices reversed", range(23, -1, -1))):
            with self.subTest(name):
                scan = scan_with(DIRECTIONS[name])
                series = read_source_series(context_of(scan, dicom_files=write_source(self.folder / name, scan)))
                assert series.slices == tuple(slices)
                assert [image.InstanceNumber for image in series.images] == [index + 1 for index in slices]
                np.testing.assert_array_equal(series.in_frame_order(scan.array), scan.array[list(slices)])

    def test_scan_that_is_not_from_dicom(self):
        self.assert_refused([], "did not come from DICOM")

    def test_missing_slice(self):
        self.assert_refused(self.source()[1:], "1 of the 24 slices of the scan have no source image")

    def test_slice_beyond_the_scan(self):
        grid = replace(self.scan.grid, shape=(23, *self.scan.grid.shape[1:]))
        self.assert_refused(self.source(), "1 of the 24 source images lie outside", Volume(self.scan.array[:23], grid))

    def test_doubled_slice(self):
        files = self.source()
        twin = save(classic(self.scan, 3, FrameOfReferenceUID=FRAME, SOPInstanceUID="1.2.3.99"), self.folder / "twin")
        self.assert_refused([*files, twin], "1 of the 25 source images lie at the same place")

    def test_moved_scan(self):
        x, y, z = self.scan.grid.origin
        moved = Volume(self.scan.array, replace(self.scan.grid, origin=(x + 1.0, y, z)))
        self.assert_refused(self.source(), "was moved or resampled", moved)

    def test_mirrored_scan(self):
        grid = self.scan.grid
        rotation = np.reshape(grid.direction, (3, 3)) @ np.diag([-1, 1, 1])
        corner = grid.index_to_physical([0, 0, grid.shape[2] - 1])
        flipped = Grid(grid.shape, grid.spacing, tuple(corner.tolist()), tuple(rotation.ravel().tolist()))
        self.assert_refused(self.source(), "was moved or resampled", Volume(self.scan.array[:, :, ::-1], flipped))

    def test_resampled_scan(self):
        grid = replace(self.scan.grid, shape=(24, 46, 40))
        self.assert_refused(self.source(), "not 46 x 40|not 40 x 46", Volume(self.scan.array[:, :46], grid))

    def test_other_pixel_size(self):
        self.assert_refused(self.changed(5, PixelSpacing=[4.4, 4.0]), "was moved or resampled")

    def test_images_of_two_series(self):
        self.assert_refused(self.changed(5, SeriesInstanceUID="1.2.4"), "differ in SeriesInstanceUID")

    def test_images_without_a_frame_of_reference(self):
        self.assert_refused(self.source(FrameOfReferenceUID=""), "no FrameOfReferenceUID")

    def test_image_without_a_position(self):
        self.assert_refused(self.changed(5, ImagePositionPatient=None), "ImagePositionPatient")

    def test_file_that_is_gone(self):
        files = self.source()
        files[3].unlink()
        self.assert_refused(files, "cannot be read")

    def test_file_that_is_no_dicom_any_more(self):
        files = self.source()
        files[3].write_bytes(b"nothing" * 100)
        self.assert_refused(files, "no DICOM file any more")

    def test_several_multi_frame_images(self):
        image = enhanced(self.scan, FrameOfReferenceUID=FRAME)
        files = [save(image, self.folder / name) for name in ("one", "two")]
        self.assert_refused(files, "several multi-frame images")

    def test_multi_frame_image_with_several_orientations(self):
        image = enhanced(self.scan, FrameOfReferenceUID=FRAME)
        shared = image.SharedFunctionalGroupsSequence[0]
        for frame in image.PerFrameFunctionalGroupsSequence:
            frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
        del shared.PlaneOrientationSequence
        files = [save(image, self.folder / "enhanced")]
        read_source_series(context_of(self.scan, dicom_files=files))
        turned = dcmread(files[0])
        last = turned.PerFrameFunctionalGroupsSequence[-1].PlaneOrientationSequence[0]
        last.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        save(turned, files[0])
        self.assert_refused(files, "differ in their ImageOrientationPatient")

    def test_rounded_orientations_are_made_one(self):
        first = dcmread(self.source()[0]).ImageOrientationPatient
        files = self.changed(5, ImageOrientationPatient=[float(f"{value:.4f}") for value in first])
        series = read_source_series(context_of(self.scan, dicom_files=files))
        assert len({tuple(image.ImageOrientationPatient) for image in series.images}) == 1

    def test_elements_that_may_be_empty_are_added(self):
        files = self.source(PatientBirthDate=None, SliceThickness=None)
        image = read_source_series(context_of(self.scan, dicom_files=files)).images[0]
        assert (image.PatientBirthDate, image.StudyDate, image.SliceThickness) == ("", "", 7.0)
