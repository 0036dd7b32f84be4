import importlib

import pytest

import DALAnomalyLib


@pytest.mark.parametrize("name", DALAnomalyLib.__all__)
def test_public_names_resolve(name: str) -> None:
    value = getattr(DALAnomalyLib, name)
    assert name in dir(DALAnomalyLib)
    if name != "__version__":
        home = importlib.import_module(f"DALAnomalyLib.{DALAnomalyLib._DEFINED_IN[name]}")
        assert value is getattr(home, name)


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Detektor'"):
        DALAnomalyLib.Detektor  # noqa: B018
