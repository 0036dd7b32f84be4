from __future__ import annotations

import json

import pytest
import typer

from DALAnomalyCLI.reporting import exit_with_message, make_reporter
from DALAnomalyLib import errors

EXPECTED = [
    getattr(errors, name)
    for name in vars(errors)
    if name.endswith(("Error",)) and issubclass(getattr(errors, name), errors.DALAnomalyError)
]


@pytest.mark.parametrize("kind", EXPECTED)
def test_expected_errors_end_with_their_own_code_and_their_message_on_one_line(
    kind: type[errors.DALAnomalyError], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, exit_with_message(make_reporter()):
        raise kind("scan.nii: first\n   second; do this")
    assert caught.value.exit_code == kind.exit_code
    out, err = capsys.readouterr()
    assert err == "dal-anomaly: error: scan.nii: first second; do this\n"
    assert out == ""


def test_unexpected_errors_end_with_one_and_point_to_debug(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, exit_with_message(make_reporter()):
        raise ValueError("three\nlines\nof it")
    assert caught.value.exit_code == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "unexpected ValueError: three lines of it; run again with --debug for the traceback" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("quiet", [False, True])
def test_an_unexpected_error_names_the_case_it_belongs_to(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = make_reporter(quiet)
    reporter.error("patient12 T1", RuntimeError("out of memory"))
    reporter.error("patient13 T1", errors.InputError("scan13.nii: no such file"))
    unexpected, expected = capsys.readouterr().err.splitlines()
    assert unexpected.startswith("dal-anomaly: error: patient12 T1: unexpected RuntimeError: out of memory")
    assert expected == "dal-anomaly: error: scan13.nii: no such file", "it names its file already"


@pytest.mark.parametrize("as_json", [False, True])
def test_debug_adds_the_traceback_on_the_error_stream(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), exit_with_message(make_reporter(as_json=as_json, debug=True)):
        raise errors.InputError("no such file")
    out, err = capsys.readouterr()
    assert "Traceback (most recent call last)" in err
    assert "Traceback" not in out


def test_exit_of_a_command_passes_without_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, exit_with_message(make_reporter()):
        raise typer.Exit(7)
    assert caught.value.exit_code == 7
    assert capsys.readouterr() == ("", "")


def speak(reporter_options: dict[str, bool]) -> None:
    with make_reporter(**reporter_options) as reporter:
        reporter.progress("a.nii", "reading", 0.25)
        reporter.notice("a.nii", "trying again on the CPU")
        reporter.result("a.nii", {"output": "out"}, "a.nii: 1 finding")
        reporter.error("b.nii", errors.InputError("b.nii: no such file"))
        reporter.note("1 of 2 inputs done")


def test_json_lines_carry_progress_results_and_errors_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    speak({"as_json": True})
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"event": "progress", "input": "a.nii", "stage": "reading", "fraction": 0.25},
        {"event": "notice", "input": "a.nii", "message": "trying again on the CPU"},
        {"event": "result", "input": "a.nii", "output": "out"},
        {"event": "error", "input": "b.nii", "kind": "InputError", "message": "b.nii: no such file", "exit_code": 3},
    ]
    assert err == ""


def test_quiet_json_leaves_out_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    speak({"as_json": True, "quiet": True})
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events == ["notice", "result", "error"]


def test_quiet_prints_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    speak({"quiet": True})
    assert capsys.readouterr() == ("", "dal-anomaly: error: b.nii: no such file\n")


def test_results_go_to_standard_output_and_errors_to_the_error_stream(capsys: pytest.CaptureFixture[str]) -> None:
    speak({})
    assert capsys.readouterr() == (
        "a.nii: trying again on the CPU\na.nii: 1 finding\n1 of 2 inputs done\n",
        "dal-anomaly: error: b.nii: no such file\n",
    )


def test_progress_on_a_terminal_does_not_swallow_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the stream for a terminal
    monkeypatch.setenv("TERM", "xterm")
    speak({})
    out, err = capsys.readouterr()
    assert out == "a.nii: trying again on the CPU\na.nii: 1 finding\n1 of 2 inputs done\n"
    assert "reading" in err, "the progress bar is drawn"
    assert "dal-anomaly: error: b.nii: no such file\n" in err
