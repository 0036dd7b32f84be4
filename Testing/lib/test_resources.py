import sysconfig
from pathlib import Path

import pytest

from DALAnomalyLib import resources
from DALAnomalyLib.errors import ModelFileError


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation without resources: site-packages and the environment's data folder, both empty."""
    package = tmp_path / "site-packages" / "DALAnomalyLib"
    package.mkdir(parents=True)
    monkeypatch.setattr(resources, "__file__", str(package / "resources.py"))
    monkeypatch.setattr(
        sysconfig, "get_path", lambda name, scheme="environment": str(tmp_path / scheme / name), raising=True
    )
    return tmp_path


def test_source_tree_has_its_folders_next_to_the_package() -> None:
    root = Path(__file__).resolve().parents[2]
    assert resources.resource_folder("Models") == root / "Resources" / "Models"


@pytest.mark.parametrize(
    "place",
    [
        "site-packages/Resources",
        "site-packages/share/dal-anomaly/Resources",
        "environment/data/share/dal-anomaly/Resources",
        f"{sysconfig.get_preferred_scheme('user')}/data/share/dal-anomaly/Resources",
    ],
)
def test_finds_resources_of_every_way_of_installing(installed: Path, place: str) -> None:
    folder = installed / place / "Atlas"
    folder.mkdir(parents=True)
    (folder / "t1.nii.gz").touch()
    assert resources.resource_file("Atlas", "t1.nii.gz") == folder / "t1.nii.gz"


def test_source_tree_goes_before_an_installed_copy(installed: Path) -> None:
    for place in ("environment/data/share/dal-anomaly/Resources", "site-packages/Resources"):
        (installed / place / "Models").mkdir(parents=True)
    assert resources.resource_folder("Models") == installed / "site-packages" / "Resources" / "Models"


def test_missing_folder_says_where_it_looked_and_what_to_do(installed: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no folder Models.*site-packages.*install the package again") as caught:
        resources.resource_folder("Models")
    assert "\n" not in str(caught.value)


def test_missing_file_names_the_files_that_are_there(installed: Path) -> None:
    folder = installed / "site-packages" / "Resources" / "Models"
    folder.mkdir(parents=True)
    (folder / "other.pt").touch()
    (folder / ".gitkeep").touch()
    with pytest.raises(ModelFileError, match=r"default\.pt is not in .*\(there: other\.pt\)"):
        resources.resource_file("Models", "default.pt")
