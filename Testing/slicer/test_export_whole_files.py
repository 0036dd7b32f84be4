import errno
import tempfile
import unittest
from pathlib import Path

from DALAnomalyLib.errors import OutputError
from DALAnomalySlicer.export.whole_files import whole_file, write_text

RUNS_IN_SLICER = True


class WholeFileTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_text_is_written_as_it_is(self):
        write_text(self.folder / "a.csv", "ä\r\nb\n")
        assert (self.folder / "a.csv").read_bytes() == "ä\r\nb\n".encode()
        assert [path.name for path in self.folder.iterdir()] == ["a.csv"]

    def test_full_disk_leaves_the_older_file(self):
        path = self.folder / "a.txt"
        path.write_text("old")
        with self.assertRaisesRegex(OutputError, "a.txt: the disk is full"), whole_file(path) as partial:
            partial.write_text("new")
            raise OSError(errno.ENOSPC, "No space left on device")
        assert path.read_text() == "old"
        assert [entry.name for entry in self.folder.iterdir()] == ["a.txt"]

    def test_any_other_error_leaves_nothing_and_stays_what_it_is(self):
        with self.assertRaises(KeyboardInterrupt), whole_file(self.folder / "a.txt") as partial:
            partial.write_text("half")
            raise KeyboardInterrupt
        assert not list(self.folder.iterdir())

    def test_partial_file_has_the_suffix_that_names_the_format(self):
        with whole_file(self.folder / "a.nii.gz") as partial:
            assert partial.name.endswith(".nii.gz")
            partial.touch()
