"""What is known about the machine before a run, and how PyTorch gets there."""

import subprocess
import sys
import types
from pathlib import Path

import pytest
import slicer

from DALAnomalyLib.errors import UsageError
from DALAnomalySlicer import preflight, torch_installation
from DALAnomalySlicer.preflight import Gpu, Preflight, look, parse_card, torch_version
from DALAnomalySlicer.torch_installation import RESUME_SETTING, install_torch, resume_after_restart

CARD = Gpu("NVIDIA H100", 70.0, "580.1", "9.0")


def said(machine: Preflight, device: str = "auto") -> str:
    return " ".join(machine.sentences(device))


def test_this_machine_is_described_without_importing_torch() -> None:
    program = (
        "import sys; sys.path[:0] = ['Testing', 'DALAnomaly', '.']; import slicer_standin; slicer_standin.start();"
        "from DALAnomalySlicer.preflight import look; seen = look();"
        "print(seen.torch, seen.cores, 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert answer[0] == torch_version()
    assert answer[2] == "False"
    machine = look()
    assert machine.cores >= 1
    assert machine.free_gib is None or machine.free_gib > 0


def test_missing_torch_is_said() -> None:
    assert "not installed" in said(Preflight(None, (), 8.0, 4))


def test_cpu_run_names_cores_and_torch() -> None:
    assert said(Preflight("2.8.0+cpu", (), 8.0, 4)) == "Runs on CPU (4 cores) with PyTorch 2.8.0+cpu."


def test_little_memory_is_said() -> None:
    assert "close other programs" in said(Preflight("2.8.0+cpu", (), 1.0, 4))


@pytest.mark.parametrize(("torch", "devices"), [("2.8.0+cpu", 2), ("2.8.0+cu128", 4), (None, 2)])
def test_cards_can_be_chosen_where_torch_can_use_them(torch: str | None, devices: int) -> None:
    machine = Preflight(torch, (CARD, CARD), 8.0, 4)
    assert len(machine.devices) == devices
    assert all(machine.device_label(device) for device in machine.devices)


def test_automatic_takes_the_card() -> None:
    assert said(Preflight("2.8.0+cu128", (CARD,), 8.0, 4)).startswith("Runs on NVIDIA H100 (70.0 GiB)")


def test_a_card_that_this_torch_cannot_use_is_named() -> None:
    assert "NVIDIA H100 is not used" in said(Preflight("2.8.0+cpu", (CARD,), 8.0, 4))


def test_details_name_driver_and_capability() -> None:
    said = Preflight("2.8.0+cu128", (CARD,), 8.0, 4).details()
    assert "driver 580.1, compute capability 9.0, 70.0 GiB free" in said
    assert "No NVIDIA driver" in Preflight(None, (), None, 4).details()


def test_card_of_the_driver_is_read() -> None:
    assert parse_card(["NVIDIA H100", " 71680", " 580.1", " 9.0"]) == CARD
    assert parse_card(["NVIDIA-SMI has failed"]) is None


def test_driver_that_does_not_answer_is_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*arguments: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", 5)

    monkeypatch.setattr(preflight.subprocess, "run", silent)
    assert look().gpus == ()


# --- installing -------------------------------------------------------------------------------------------------------


class TorchUtils(types.ModuleType):
    """The PyTorch extension as far as it is called; it is not to be had outside Slicer."""

    def __init__(self, installed: object) -> None:
        super().__init__("PyTorchUtils")
        self.asked: list[dict[str, object]] = []
        self.PyTorchUtilsLogic = lambda: self
        self._installed = installed

    def installTorch(self, **options: object) -> object:
        self.asked.append(options)
        if isinstance(self._installed, Exception):
            raise self._installed
        return self._installed


def test_nothing_is_installed_without_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    extension = TorchUtils(object())
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    assert not install_torch(lambda question: False)
    assert extension.asked == []


def test_the_extension_installs_the_version_that_the_package_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    extension = TorchUtils(object())
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    assert install_torch(lambda question: "PyTorch" in question)
    assert extension.asked[0]["torchVersionRequirement"] == torch_installation.REQUIREMENT
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"torch{torch_installation.REQUIREMENT}"' in project


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(None, "declined"), (subprocess.CalledProcessError(1, "pip"), "pip"), (RuntimeError("no route to host"), "route")],
)
def test_failed_installation_says_why_and_what_to_do(
    outcome: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PyTorchUtils", TorchUtils(outcome))
    with pytest.raises(UsageError, match=f"{reason}.*PyTorch Utils"):
        install_torch(lambda question: True)


class ExtensionsModel:
    """Slicer's model of extensions as far as it is called; it needs a server."""

    def __init__(self) -> None:
        self.interactive = True
        self.calls: list[object] = []

    def installExtensionFromServer(self, name: str, restart: bool = True) -> bool:
        self.calls.append((name, restart))
        return True


def test_slicer_restarts_once_for_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ExtensionsModel()
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    monkeypatch.setattr(type(slicer.app), "extensionsManagerModel", lambda app: model, raising=False)
    monkeypatch.setattr(slicer.util, "restart", lambda: model.calls.append("restart"))
    assert not install_torch(lambda question: True)
    assert model.calls == [("PyTorch", False), "restart"]
    assert slicer.app.settings().value(RESUME_SETTING)


def test_without_the_extension_the_user_is_sent_to_the_extensions_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(UsageError, match="Extensions Manager"):
        install_torch(lambda question: True)


def test_the_module_opens_again_after_the_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(slicer.util, "selectModule", opened.append)
    resume_after_restart()
    assert opened == []
    slicer.app.settings().setValue(RESUME_SETTING, True)
    resume_after_restart()
    resume_after_restart()
    assert opened == ["DALAnomaly"]
