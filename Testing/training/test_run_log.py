import csv
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from DALAnomalyTraining.run_log import RunLog


def rows(folder: Path, table: str = "steps") -> list[dict[str, str]]:
    with (folder / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def logged(folder: Path, steps: range, first_step: int = 0, **figures: float) -> None:
    log = RunLog(folder, first_step)
    for step in steps:
        log.write("steps", step, {"total": step / 3} | figures)
    log.close()


def test_every_figure_of_every_step_is_a_row(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    log.write("steps", 0, {"total": 1.25, "seconds": 2.0})
    log.write("steps", 1, {"total": 1e-9, "seconds": 1 / 3})
    log.write("validation", 1, {"average_precision": 0.5})
    log.close()
    assert (tmp_path / "steps.csv").read_text().splitlines() == ["step,total,seconds", "0,1.25,2", "1,1e-09,0.3333333"]
    assert rows(tmp_path, "validation") == [{"step": "1", "average_precision": "0.5"}]


def test_rows_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for step in range(3):
        log.write("steps", step, {"total": 1.0})
        assert len(rows(tmp_path)) == step + 1
    log.close()


def test_new_columns_extend_the_table_and_missing_ones_stay_empty(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    log.write("steps", 0, {"total": 1.0})
    log.write("steps", 1, {"restoration": 3.0, "total": 2.0})
    log.write("steps", 2, {"restoration": 4.0})
    log.close()
    assert rows(tmp_path) == [
        {"step": "0", "total": "1", "restoration": ""},
        {"step": "1", "total": "2", "restoration": "3"},
        {"step": "2", "total": "", "restoration": "4"},
    ]


def test_resuming_forgets_what_will_be_repeated(tmp_path: Path) -> None:
    logged(tmp_path, range(12))
    log = RunLog(tmp_path, 9)
    assert [row["step"] for row in rows(tmp_path)] == [str(step) for step in range(9)]
    log.write("steps", 9, {"total": 100.0, "new": 1.0})
    log.close()
    assert [(row["step"], row["total"], row["new"]) for row in rows(tmp_path)[-2:]] == [
        ("8", "2.666667", ""),
        ("9", "100", "1"),
    ]


def test_a_run_that_starts_again_forgets_everything(tmp_path: Path) -> None:
    logged(tmp_path, range(5))
    logged(tmp_path, range(2))
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1"]


# what a killed run may leave of "123,41,0.5\r\n"
@pytest.mark.parametrize("half", ["1", "12", "123", "123,4", "123,41,0.", "123,41,0.5\r"])
def test_half_a_line_is_dropped_and_the_rest_survives(tmp_path: Path, half: str) -> None:
    logged(tmp_path, range(4), seconds=0.5)
    with (tmp_path / "steps.csv").open("a", newline="") as file:
        file.write(half)
    logged(tmp_path, range(200, 202), first_step=200, seconds=0.25)
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2", "3", "200", "201"]
    assert [row["seconds"] for row in rows(tmp_path)] == ["0.5"] * 4 + ["0.25"] * 2


def test_a_file_that_holds_no_whole_line_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("step,to")
    logged(tmp_path, range(1))
    assert rows(tmp_path) == [{"step": "0", "total": "0"}]


def test_tensorboard_shows_the_same_figures_without_what_was_repeated(tmp_path: Path) -> None:
    logged(tmp_path, range(6))
    logged(tmp_path, range(4, 8), first_step=4)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    scalars = events.Scalars("steps/total")
    assert [event.step for event in scalars] == list(range(8))
    assert [event.value for event in scalars] == pytest.approx([step / 3 for step in range(8)])
