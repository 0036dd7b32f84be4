"""PyTorch inside 3D Slicer, installed by the PyTorch extension after asking. The worker needs no restart afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable

import slicer
from slicer.i18n import tr as _

from DALAnomalyLib.errors import UsageError

REQUIREMENT = ">=2.4,<3"
"""As in pyproject.toml."""
RESUME_SETTING = "DALAnomaly/ResumeAfterRestart"
"""Set while Slicer restarts for the PyTorch extension; the module then opens by itself."""

Confirm = Callable[[str], bool]


def install_torch(confirm: Confirm) -> bool:
    """Install PyTorch after asking.

    Args:
        confirm: shows a question; True if the user agrees.

    Returns:
        Whether torch is there now; False if the user declined or Slicer has to restart first.

    Raises:
        UsageError: the PyTorch extension is missing and cannot be installed, or its installation failed.
    """
    try:
        import PyTorchUtils
    except ModuleNotFoundError:
        return _install_extension(confirm)
    question = _("Detection needs PyTorch, a download of up to 3 GB. Install it now?")
    if not confirm(question):
        return False
    logic = PyTorchUtils.PyTorchUtilsLogic()
    msg = _("PyTorch could not be installed ({reason}); see the module PyTorch Utils, or ask your administrator.")
    try:
        installed = logic.installTorch(askConfirmation=False, torchVersionRequirement=REQUIREMENT)
    except Exception as error:  # of pip, of the network, of Slicer's own process handling: all end here
        raise UsageError(msg.format(reason=str(error) or type(error).__name__)) from error
    if installed is None:
        raise UsageError(msg.format(reason=_("it was declined")))
    return True


def _install_extension(confirm: Confirm) -> bool:
    model = getattr(slicer.app, "extensionsManagerModel", lambda: None)()
    if model is None:
        msg = _("The extension PyTorch is missing; install it with the Extensions Manager, then detect again.")
        raise UsageError(msg)
    question = _("Detection needs the extension PyTorch. Install it and restart Slicer? Unsaved data will be lost.")
    if not confirm(question):
        return False
    model.interactive = False  # its dependencies come without more questions
    if not model.installExtensionFromServer("PyTorch", False):  # it would restart by itself, before the setting
        msg = _("The extension PyTorch could not be installed; check the network, or use the Extensions Manager.")
        raise UsageError(msg)
    slicer.app.settings().setValue(RESUME_SETTING, True)
    slicer.util.restart()
    return False


def resume_after_restart() -> None:
    """Open this module if Slicer was restarted for it; called once when Slicer has started."""
    settings = slicer.app.settings()
    if settings.value(RESUME_SETTING) in (None, False, "false"):
        return
    settings.remove(RESUME_SETTING)
    logging.info("DALAnomaly: Slicer was restarted for the PyTorch extension")
    slicer.util.selectModule("DALAnomaly")
