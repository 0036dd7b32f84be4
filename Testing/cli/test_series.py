from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from DALAnomalyCLI.series import series
from Testing.lib.dicom_phantom import T1_SPIN_ECHO, head, write_series

app = typer.Typer()
app.command()(series)


def study(folder: Path) -> Path:
    scan = head()
    write_series(folder / "a", scan, "1.2.3", SeriesNumber=2, SeriesDescription="t1 [se] Jane", **T1_SPIN_ECHO)
    write_series(folder / "b", scan, "1.2.4", SeriesNumber=5, SeriesDescription="CT", Modality="CT")
    return folder


def test_table_for_people(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(study(tmp_path))])
    assert done.exit_code == 0
    first, second = (line for line in done.stdout.splitlines() if line.strip()[:1] in ("1", "2"))
    for words in ("t1 [se]", "MR T1", "24", "40 x 48 x 24", "4 x 4.5 x 7", "yes"):
        assert words in first
    assert "holds CT images" in second
    assert "Jane" not in done.stdout


def test_object_for_programs(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(study(tmp_path)), "--json"])
    event = json.loads(done.stdout)
    assert [one["number"] for one in event["series"]] == [1, 2]
    assert event["series"][0]["size"] == [40, 48, 24]
    assert event["series"][0]["spacing_mm"] == [4, 4.5, 7]
    assert event["series"][0]["usable"]
    assert not event["series"][1]["usable"]


def test_folder_without_dicom_ends_with_exit_code_3(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path), "--json"])
    assert done.exit_code == 3
    assert "no DICOM series" in json.loads(done.stdout)["message"]
