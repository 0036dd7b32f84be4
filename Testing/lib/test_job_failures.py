from __future__ import annotations

from pathlib import Path

import pytest

from DALAnomalyLib.errors import CancelledError, GeometryError, InputError
from DALAnomalyLib.job.failures import exit_code_of, naming, one_line


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("matplotlib", "the Python package matplotlib is missing; install it with: pip install '.[cli]' in the folder"),
        ("lightning.fabric", "the Python package lightning is missing; install it with: pip install '.[cli,train]' in"),
        ("torch", "the Python package torch is missing; install PyTorch: in 3D Slicer with the extension PyTorch"),
    ],
)
def test_missing_package_says_how_to_install_it(package: str, words: str) -> None:
    assert one_line(ModuleNotFoundError(f"No module named '{package}'", name=package)).startswith(words)


def test_expected_errors_are_their_message_and_unexpected_ones_say_what_they_are() -> None:
    assert one_line(InputError("a.nii: first\n  second"), "see the log") == "a.nii: first second"
    assert one_line(ZeroDivisionError("a\ndefect")) == "unexpected ZeroDivisionError: a defect"
    assert one_line(ZeroDivisionError("a defect"), "see the log").endswith("a defect; see the log")
    assert (exit_code_of(InputError()), exit_code_of(ZeroDivisionError())) == (3, 1)


def test_interruption_counts_as_cancelled() -> None:
    assert exit_code_of(KeyboardInterrupt()) == CancelledError.exit_code == 130
    assert one_line(KeyboardInterrupt()) == "the run was cancelled"


def test_the_file_is_put_into_messages_that_lack_it() -> None:
    with pytest.raises(GeometryError, match=r"^a\.nii: bad grid$"), naming(Path("a.nii")):
        raise GeometryError("bad grid")
    with pytest.raises(CancelledError, match=r"^stop$"), naming(Path("a.nii")):
        raise CancelledError("stop")
