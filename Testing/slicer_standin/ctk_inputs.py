"""CTK's inputs: a slider with a number beside it, a combo box with a prompt, a line for a path."""

from __future__ import annotations

import os

from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QSizePolicy,
    QSlider,
    QToolButton,
    QWidget,
)

from .properties import inner_property, stored_property
from .pythonqt import cpp_class


@cpp_class
class ctkSliderWidget(QWidget):
    """A slider and a spin box that show the same number, rounded to `decimals`."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._before_drag: float | None = None
        self._slider = QSlider(Qt.Horizontal)
        self._spin_box = QDoubleSpinBox()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._spin_box)
        self._spin_box.setMaximum(99)
        self._show_range()
        self._spin_box.valueChanged.connect(self._on_number)
        self._slider.valueChanged.connect(self._on_slider)
        self._slider.sliderPressed.connect(self._on_pressed)
        self._slider.sliderReleased.connect(self._on_released)

    def _on_number(self, value: float) -> None:
        self._show_value()
        if not self.tracking:
            self.valueIsChanging.emit(value)
        if self._before_drag is None:
            self.valueChanged.emit(value)

    def _on_slider(self, position: int) -> None:
        if position != self._position():
            self._spin_box.setValue(self.minimum + position * self._resolution())

    def _on_pressed(self) -> None:
        if not self.tracking:
            self._before_drag = self._spin_box.value

    def _on_released(self) -> None:
        before, self._before_drag = self._before_drag, None
        if before is not None and before != self._spin_box.value:
            self.valueChanged.emit(self._spin_box.value)

    def _resolution(self) -> float:
        """What one position of the slider stands for."""
        return float(10.0**-self.decimals)

    def _position(self) -> int:
        return round((self._spin_box.value - self.minimum) / self._resolution())

    def _show_value(self) -> None:
        self._slider.setValue(self._position())

    def _show_range(self) -> None:
        was_blocked = self._slider.blockSignals(True)  # the number stays what it is, or what the new range makes it
        self._slider.setRange(0, round((self.maximum - self.minimum) / self._resolution()))
        self._slider.setSingleStep(max(1, round(self.singleStep / self._resolution())))
        self._slider.setPageStep(max(1, round(self.pageStep / self._resolution())))
        self._show_value()
        self._slider.blockSignals(was_blocked)

    def _set_minimum(self, value: float) -> None:
        self._spin_box.setMinimum(value)
        self._show_range()

    def _set_maximum(self, value: float) -> None:
        self._spin_box.setMaximum(value)
        self._show_range()

    def _set_single_step(self, value: float) -> None:
        self._spin_box.setSingleStep(value)
        self._show_range()

    def _set_decimals(self, value: int) -> None:
        self._spin_box.setDecimals(value)
        self._show_range()
        self.decimalsChanged.emit(value)

    def _get_value(self) -> float:
        return float(self._spin_box.value if self._before_drag is None else self._before_drag)

    def setValue(self, value: float) -> None:
        self._spin_box.setValue(value)

    def reset(self) -> None:
        self.setValue(0.0)

    def setSpinBoxVisible(self, visible: bool) -> None:
        self._spin_box.setVisible(visible)

    value = Property(float, _get_value, setValue)
    minimum = Property(float, lambda self: self._spin_box.minimum, _set_minimum)
    maximum = Property(float, lambda self: self._spin_box.maximum, _set_maximum)
    singleStep = Property(float, lambda self: self._spin_box.singleStep, _set_single_step)
    decimals = Property(int, lambda self: self._spin_box.decimals, _set_decimals)
    pageStep = stored_property(float, "pageStep", 10.0)
    tracking = stored_property(bool, "tracking", True)
    prefix = inner_property(str, "_spin_box", "prefix")
    suffix = inner_property(str, "_spin_box", "suffix")
    spinBoxVisible = Property(bool, lambda self: not self._spin_box.isHidden(), setSpinBoxVisible)


@cpp_class
class ctkComboBox(QComboBox):
    """A combo box that says what to choose while nothing is chosen."""

    def _on_default_text(self, text: str) -> None:
        self.placeholderText = text

    def _get_user_data(self) -> str:
        data = self.currentData
        return "" if data is None else str(data)

    def setCurrentUserDataAsString(self, text: str) -> None:
        self.setCurrentIndex(self.findData(text))

    defaultText = stored_property(str, "defaultText", "", changed="_on_default_text")
    elideMode = stored_property(Qt.TextElideMode, "elideMode", Qt.ElideNone)
    currentUserDataAsString = Property(str, _get_user_data, setCurrentUserDataAsString)


@cpp_class
class ctkPathLineEdit(QWidget):
    """A line for the path of a file or folder, and a button to browse for it."""

    Dirs, Files, Drives, NoSymLinks = 0x001, 0x002, 0x004, 0x008
    Readable, Writable, Executable = 0x010, 0x020, 0x040
    AllEntries = Dirs | Files | Drives

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._valid = False
        self._edit = QLineEdit()
        self._browse = QToolButton()
        self._browse.text = "..."
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit, 1)
        layout.addWidget(self._browse)
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self._edit.textChanged.connect(self._on_text)
        self._browse.clicked.connect(self.browse)

    def _on_text(self, path: str) -> None:
        valid = os.path.exists(path)
        if valid != self._valid:
            self._valid = valid
            self.validInputChanged.emit(valid)
        self.currentPathChanged.emit(path)

    def browse(self) -> None:
        if not self.filters & self.Files:
            chosen = QFileDialog.getExistingDirectory(self, self.label, self.currentPath)
        elif self.filters & self.Writable:
            chosen = QFileDialog.getSaveFileName(self, self.label, self.currentPath, ";;".join(self.nameFilters))
        else:
            chosen = QFileDialog.getOpenFileName(self, self.label, self.currentPath, ";;".join(self.nameFilters))
        if chosen:
            self.currentPath = chosen

    def setCurrentPath(self, path: str) -> None:
        self.currentPath = path

    def addCurrentPathToHistory(self) -> None:
        """Nothing: the stand-in keeps no history."""

    currentPath = inner_property(str, "_edit", "text")
    filters = stored_property(int, "filters", AllEntries)
    nameFilters = stored_property("QStringList", "nameFilters", ())
    label = stored_property(str, "label", "")
    settingKey = stored_property(str, "settingKey", "")
    showHistoryButton = stored_property(bool, "showHistoryButton", True)
    showBrowseButton = Property(
        bool, lambda self: not self._browse.isHidden(), lambda self, visible: self._browse.setVisible(visible)
    )
