import csv
import dataclasses
import json
import tempfile
import unittest
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from DALAnomalyLib.errors import OutputError
from DALAnomalySlicer.export.findings_csv import csv_text
from DALAnomalySlicer.export.volumes import write_volumes
from Testing.slicer.export_phantom import DIRECTIONS, context_of, scan_with

RUNS_IN_SLICER = True

VOLUMES = ("brain_mask", "edges", "findings", "pseudo_healthy", "score", "tissues", "uncertainty")


class VolumesTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.context = context_of(scan_with(DIRECTIONS["slices reversed"]), ("dismissed", "marked"))

    def test_all_results_on_the_grid_of_the_scan(self):
        for suffix in (".nii.gz", ".nrrd"):
            with self.subTest(suffix):
                names = write_volumes(self.context, self.folder / suffix, suffix)
                assert set(names) == {f"{name}{suffix}" for name in VOLUMES} | {"findings.csv", "manifest.json"}
                for name in VOLUMES:
                    image = sitk.ReadImage(str(self.folder / suffix / f"{name}{suffix}"))
                    grid = self.context.scan.grid
                    np.testing.assert_allclose(image.GetOrigin(), grid.origin, atol=1e-3)
                    np.testing.assert_allclose(image.GetDirection(), grid.direction, atol=1e-5)
                    np.testing.assert_allclose(image.GetSpacing(), grid.spacing, rtol=1e-6)
                    expected = (
                        2 * (self.context.labels.array == 2)
                        if name == "findings"
                        else getattr(self.context.result, name)
                    )
                    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), expected)

    def test_manifest_says_what_the_user_chose(self):
        write_volumes(self.context, self.folder / "out")
        manifest = json.loads((self.folder / "out" / "manifest.json").read_text())
        assert manifest["model"] == self.context.result.manifest["model"]
        assert manifest["export"] == {"threshold": 0.1, "minimum_finding_ml": 0.1, "findings": 1}
        assert set(manifest["outputs"]) == {f"{name}.nii.gz" for name in VOLUMES} | {"findings.csv"}

    def test_table_lists_every_finding_with_its_mark(self):
        lines = list(csv.DictReader(csv_text(self.context.rows).splitlines()))
        assert [line["status"] for line in lines] == ["dismissed", "marked"]
        for line, row in zip(lines, self.context.rows, strict=True):
            assert (int(line["id"]), line["tissue"], line["side"]) == (row.number, row.tissue, row.side)
            numbers = [float(line[name]) for name in ("volume_ml", "peak", "mean", "extent_i_mm", "centroid_s_mm")]
            expected = (row.volume_ml, row.peak, row.mean, row.extent_mm[0], row.centroid_ras[2])
            np.testing.assert_allclose(numbers, expected, rtol=1e-5)

    def test_table_in_the_folder_is_the_one_on_the_clipboard(self):
        write_volumes(self.context, self.folder / "out")
        assert (self.folder / "out" / "findings.csv").read_bytes().decode() == csv_text(self.context.rows)

    def test_result_without_uncertainty_takes_the_older_one_away(self):
        write_volumes(self.context, self.folder / "out")
        certain = dataclasses.replace(self.context.result, uncertainty=None)
        names = write_volumes(dataclasses.replace(self.context, result=certain), self.folder / "out")
        assert set(names) == {f"{name}.nii.gz" for name in VOLUMES[:-1]} | {"findings.csv", "manifest.json"}

    def test_older_export_of_either_format_is_replaced(self):
        write_volumes(self.context, self.folder / "out", ".nrrd")
        write_volumes(self.context, self.folder / "out", ".nii.gz")
        assert not list((self.folder / "out").glob("*.nrrd"))

    def test_other_files_are_not_touched(self):
        (self.folder / "out").mkdir()
        (self.folder / "out" / "notes.txt").write_text("mine")
        with self.assertRaisesRegex(OutputError, "notes.txt"):
            write_volumes(self.context, self.folder / "out")
        assert [path.name for path in (self.folder / "out").iterdir()] == ["notes.txt"]

    def test_failure_leaves_nothing(self):
        with self.assertRaisesRegex(OutputError, "out: could not be written completely"):
            write_volumes(self.context, self.folder / "out", ".unknown")
        assert not list(self.folder.iterdir())
