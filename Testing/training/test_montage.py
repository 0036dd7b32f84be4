from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import image, pyplot
from matplotlib.axes import Axes

from DALAnomalyTraining.montage import COLUMNS, save_montage
from DALAnomalyTraining.validation import Picture

SHAPE = (8, 10, 12)


def picture(title: str, slice_with_lesion: int) -> Picture:
    """Every volume counts its slices, and differs from the others by its tenths."""
    slices = torch.arange(8.0)[:, None, None].expand(SHAPE)
    lesion = torch.zeros(SHAPE, dtype=torch.bool)
    lesion[slice_with_lesion, 2:6, 2:6] = True
    lesion[0, 3, 3] = True
    volumes = {name: slices + number / 10 for number, name in enumerate(COLUMNS) if name != "lesion"}
    return Picture(title, lesion=lesion, **volumes)


def test_each_row_shows_the_slice_with_most_of_the_lesion(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown: list[np.ndarray[Any, Any]] = []
    draw = Axes.imshow

    def recorded(self: Axes, values: Any, **options: Any) -> Any:
        shown.append(np.asarray(values))
        return draw(self, values, **options)

    monkeypatch.setattr(Axes, "imshow", recorded)
    save_montage([picture("T1, oedema", 5), picture("T2, oedema", 2)], tmp_path / "montage.png", "step 3")
    assert len(shown) == 2 * len(COLUMNS)
    for row, index in enumerate((5, 2)):
        for number, name in enumerate(COLUMNS):
            values = shown[row * len(COLUMNS) + number]
            assert values.shape == SHAPE[1:]
            if name == "lesion":
                assert values.sum() == 16
            else:
                np.testing.assert_allclose(values, index + number / 10, rtol=1e-6)


def test_the_montage_is_a_picture_and_its_figure_is_closed(tmp_path: Path) -> None:
    save_montage([picture("T1", 5)], tmp_path / "montage.png", "step 3")
    height, width = image.imread(tmp_path / "montage.png").shape[:2]
    assert width > 4 * height > 0
    assert pyplot.get_fignums() == []
