import tempfile
import unittest
from pathlib import Path

import numpy as np
from pydicom import dcmread

from DALAnomalyLib.errors import InputError
from DALAnomalySlicer.export.dicom_segmentation import write_segmentation
from DALAnomalySlicer.export.structured_report import write_structured_report
from Testing.slicer.export_phantom import DIRECTIONS, context_of, scan_with, write_source

RUNS_IN_SLICER = True


def items(container, meaning):
    """The content items of a container with this concept name, whatever its case, which depends on the library."""
    found = container.get("ContentSequence", [])
    return [item for item in found if item.ConceptNameCodeSequence[0].CodeMeaning.lower() == meaning.lower()]


def modifier(measurement):
    """Derivation or method of a measurement, "" without."""
    inner = [item.ConceptCodeSequence[0].CodeMeaning for item in measurement.get("ContentSequence", [])]
    return inner[0] if inner else ""


class StructuredReportTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.scan = scan_with(DIRECTIONS["oblique"])
        self.files = write_source(self.folder / "source", self.scan)

    def context(self, statuses=("", "")):
        return context_of(self.scan, statuses, self.files)

    def written(self, statuses=("", "")):
        """The report, and the segmentation that belongs to it."""
        context = self.context(statuses)
        write_segmentation(context, self.folder / "seg.dcm")
        write_structured_report(context, self.folder / "sr.dcm", self.folder / "seg.dcm")
        return dcmread(self.folder / "sr.dcm"), dcmread(self.folder / "seg.dcm")

    def groups(self, report):
        (measurements,) = items(report, "Imaging Measurements")
        return items(measurements, "Measurement Group")

    def measured(self, group):
        """Value and unit by (name, modifier)."""
        found = {}
        for item in group.ContentSequence:
            if item.ValueType == "NUM":
                value = item.MeasuredValueSequence[0]
                name = item.ConceptNameCodeSequence[0].CodeMeaning
                unit = value.MeasurementUnitsCodeSequence[0].CodeValue
                found[name, modifier(item)] = (float(value.NumericValue), unit)
        return found

    def test_measurements_are_those_of_the_table(self):
        report, _ = self.written()
        for row, group in zip(self.context().rows, self.groups(report), strict=True):
            found = self.measured(group)
            longest = "Longest side of the bounding box along the axes of the scan"
            expected = {
                ("Volume", ""): (row.volume_ml, "mL"),
                ("Anomaly score", "Maximum"): (row.peak, "1"),
                ("Anomaly score", "Mean"): (row.mean, "1"),
                ("Length", longest): (max(row.extent_mm), "mm"),
            }
            assert found.keys() == expected.keys()
            for name, (value, unit) in expected.items():
                np.testing.assert_allclose(found[name][0], value, rtol=1e-9)
                assert found[name][1] == unit

    def test_groups_refer_to_the_segments(self):
        report, segmentation = self.written(("dismissed", "marked"))
        (group,) = self.groups(report)
        (reference,) = items(group, "Referenced Segment")
        target = reference.ReferencedSOPSequence[0]
        assert target.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert target.ReferencedSegmentNumber == 1
        (segment,) = segmentation.SegmentSequence
        (tracking,) = items(group, "Tracking Unique Identifier")
        assert segment.TrackingUID == tracking.UID
        assert items(group, "Tracking Identifier")[0].TextValue == "Finding 2 (marked)"

    def test_every_reference_resolves(self):
        report, segmentation = self.written()
        known = {dcmread(path).SOPInstanceUID for path in self.files} | {segmentation.SOPInstanceUID}
        evidence = {
            instance.ReferencedSOPInstanceUID
            for requested in report.CurrentRequestedProcedureEvidenceSequence
            for series in requested.ReferencedSeriesSequence
            for instance in series.ReferencedSOPSequence
        }
        assert evidence == known

    def test_sources_of_a_finding_are_the_slices_that_show_it(self):
        report, _ = self.written()
        labels = self.context().labels.array
        for number, group in enumerate(self.groups(report), start=1):
            sources = items(group, "Source Image for Segmentation")
            found = {source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for source in sources}
            slices = np.flatnonzero((labels == number).any(axis=(1, 2)))
            assert found == {f"1.2.3.{index + 1}" for index in slices}

    def test_sources_of_a_finding_are_the_slices_that_show_it_though_another_was_dismissed(self):
        labels = self.context().labels.array
        (group,) = self.groups(self.written(("dismissed", ""))[0])
        sources = items(group, "Source Image for Segmentation")
        found = {source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for source in sources}
        assert found == {f"1.2.3.{index + 1}" for index in np.flatnonzero((labels == 2).any(axis=(1, 2)))}

    def test_finding_is_a_lesion_on_one_side_of_the_brain(self):
        report, _ = self.written()
        group = self.groups(report)[0]
        assert items(group, "Finding")[0].ConceptCodeSequence[0].CodeValue == "52988006"
        (site,) = items(group, "Finding Site")
        assert site.ConceptCodeSequence[0].CodeMeaning == "Brain"
        assert items(site, "Laterality")[0].ConceptCodeSequence[0].CodeMeaning == "Left"

    def test_a_device_observed_and_nobody_has_verified(self):
        report, _ = self.written()
        assert items(report, "Observer Type")[0].ConceptCodeSequence[0].CodeMeaning == "Device"
        assert items(report, "Device Observer Name")[0].TextValue == "DALAnomaly"
        assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")

    def test_it_is_for_research_and_belongs_to_the_patient(self):
        report, _ = self.written()
        assert "Research use only" in report.SeriesDescription
        said = [item.TextValue for item in items(self.groups(report)[0], "Algorithm Parameters")]
        assert "Research use only. Not for diagnosis." in said
        assert "threshold: 0.1" in said
        assert (report.PatientID, report.StudyInstanceUID) == ("PID-4711", "1.2")

    def test_segmentation_of_other_findings_is_refused(self):
        self.written()
        with self.assertRaisesRegex(InputError, "not the segmentation of these findings"):
            write_structured_report(self.context(("dismissed", "")), self.folder / "x.dcm", self.folder / "seg.dcm")
