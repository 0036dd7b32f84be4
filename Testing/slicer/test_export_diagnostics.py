import getpass
import socket
import unittest
from unittest import mock

from DALAnomalySlicer.export.diagnostics import diagnostics_text
from DALAnomalySlicer.export.redaction import redacted
from Testing.slicer.export_phantom import IDENTIFIERS, MODEL_DIGEST, context_of, scan_with

RUNS_IN_SLICER = True

LOG = """Traceback (most recent call last):
  File "/home/jane doe/Slicer 5/lib/pipeline.py", line 3, in run
DALAnomalyLib.errors.InputError: C:\\Users\\jane\\Doe, Jane\\T1 (2).nii.gz: truncated; copy it again
out of memory"""


class RedactionTest(unittest.TestCase):
    def test_paths_go_whatever_is_in_them(self):
        for text, expected in {
            "/home/doe/T1.nii: truncated; copy it": "<path>: truncated; copy it",
            "/data/Doe, Jane (old)/T1.nii: bad": "<path>: bad",
            "No such file: '/data/a b/c d.nii'; next": "No such file: '<path>'; next",
            "/home/o'brien/x.nii: bad": "<path>: bad",
            "C:\\Users\\Jane Doe\\T1.nii: bad": "<path>: bad",
            "D:/scans/T1.nii, again": "<path>, again",
            "\\\\server\\share\\doe.dcm": "<path>",
            "file:///home/doe/T1.nii": "<path>",
            "~/scans/T1.nii": "<path>",
            "--scan=/data/T1.nii": "--scan=<path>",
        }.items():
            with self.subTest(text):
                assert redacted(text) == expected

    def test_what_is_no_path_stays(self):
        for text in ("T1/T2 and/or 3 mm/s", "https://github.com/a/b", "1 / 2", "cuda:0", "<path>/x.py", "a: b; c"):
            with self.subTest(text):
                assert redacted(text) == text

    def test_program_files_keep_their_names(self):
        assert redacted('File "/opt/a b/steps.py", line 3') == 'File "<path>/steps.py", line 3'

    def test_user_and_computer_go(self):
        with (
            mock.patch.object(getpass, "getuser", return_value="jdoe"),
            mock.patch.object(socket, "gethostname", return_value="mri-7.hospital.org"),
        ):
            text = redacted("JDOE on mri-7.hospital.org, also mri-7; jdoes stays")
        assert text == "<user> on <computer>, also <computer>; jdoes stays"

    def test_what_looks_like_a_patient_goes(self):
        for text, expected in {
            "Doe^Jane": "<name>",
            "Müller^Jörg^^Dr": "<name>",
            "born 1970-01-02": "born <date>",
            "on 02.01.1970": "on <date>",
            "2026-01-02T03:04:05+00:00": "<date>",
            "series 1.2.840.113619.2.55.3": "series <identifier>",
            "accession 12345678": "accession <number>",
            "jane.doe@hospital.org": "<address>",
        }.items():
            with self.subTest(text):
                assert redacted(text) == expected

    def test_numbers_of_the_program_stay(self):
        for text in (MODEL_DIGEST, "2.8.0+cu128", "5.12.4.0", "0.013463339768350124", "14.557 s", "256 x 256"):
            with self.subTest(text):
                assert redacted(text) == text

    def test_words_of_the_caller_go(self):
        assert redacted("volume Head of Jane, Jane", ["Head of Jane", "jane", "T1"]) == "volume <private>, <private>"


class DiagnosticsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.manifest = context_of(scan_with()).result.manifest

    def test_it_says_what_ran_and_how(self):
        text = diagnostics_text(self.manifest, ["rough mask"], LOG, {"3D Slicer": "5.12"})
        for expected in (
            "3D Slicer: 5.12",
            "torch: 2.8.0+cu128",
            "device: cuda:0",
            f"SHA-256 {MODEL_DIGEST}",
            "threshold: 0.1",
            "n4 (done, 1.2 s)",
            "in all: 14.5 s",
            "rough mask",
            "out of memory",
        ):
            with self.subTest(expected):
                assert expected in text

    def test_it_works_before_any_run(self):
        text = diagnostics_text(None)
        assert "no result" in text
        assert "DALAnomaly: " in text

    def test_patient_and_user_are_not_in_it(self):
        facts = {"scan": "Doe^Jane of 1970-01-02"}
        text = diagnostics_text(self.manifest, ["/data/Doe/T1.nii: rough"], LOG, facts, ["T1 of Jane"])
        private = (*IDENTIFIERS, "jane", "doe", "/home", "/data", "Users")
        assert not [word for word in private if word.casefold() in text.casefold()]

    def test_manifest_of_another_version_does_no_harm(self):
        for manifest in ({"model": None}, {"steps": [{}], "times": {}}, {"parameters": {"a": [1, 2.5, None]}}):
            with self.subTest(manifest):
                assert "unknown" in diagnostics_text(manifest)
