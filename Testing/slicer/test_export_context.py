import subprocess
import sys
import unittest
from dataclasses import replace
from pathlib import Path

import numpy as np

from DALAnomalyLib.errors import GeometryError, InputError
from DALAnomalyLib.volume import Volume
from DALAnomalySlicer.export import export_context
from Testing.slicer.export_phantom import context_of, scan_with


class ExportContextTest(unittest.TestCase):
    def test_dismissed_findings_are_kept_apart(self):
        context = context_of(scan_with(), ("dismissed", "marked"))
        assert [row.number for row in context.kept_rows] == [2]
        assert [row.number for row in context.dismissed_rows] == [1]

    def test_label_maps_leave_dismissed_findings_out(self):
        context = context_of(scan_with(), ("dismissed", ""))
        second = context.labels.array == 2
        np.testing.assert_array_equal(context.kept_labels().array, 2 * second)
        np.testing.assert_array_equal(context.consecutive_labels().array, second)

    def test_result_of_another_scan_is_refused(self):
        context = context_of(scan_with())
        half = Volume(context.scan.array[:12], replace(context.scan.grid, shape=(12, 48, 40)))
        with self.assertRaisesRegex(GeometryError, "not lie on the grid of the scan"):
            replace(context, scan=half)

    def test_labels_elsewhere_are_refused(self):
        context = context_of(scan_with())
        moved = Volume(context.labels.array, replace(context.labels.grid, origin=(0.0, 0.0, 0.0)))
        with self.assertRaisesRegex(GeometryError, "not lie on the grid of the scan"):
            replace(context, labels=moved)

    def test_row_without_voxels_is_refused(self):
        context = context_of(scan_with())
        first_only = context.labels.with_array(np.where(context.labels.array == 1, context.labels.array, 0))
        with self.assertRaisesRegex(InputError, "finding 2 of the table is absent"):
            replace(context, labels=first_only)

    def test_importing_the_exports_needs_no_other_package(self):
        folder = Path(export_context.__file__).parent
        names = sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "dicom_source"))
        imports = "; ".join(f"import DALAnomalySlicer.export.{name}" for name in names)
        others = {"torch", "SimpleITK", "highdicom", "pydicom", "PIL", "slicer", "qt"}
        code = f"import sys; {imports}; print(sorted({others} & set(sys.modules)))"
        paths = [str(folder.parents[1]), str(folder.parents[2])]
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {paths}; {code}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "[]"
