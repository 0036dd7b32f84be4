"""CTK's buttons: one that folds its contents away, one with a menu beside it, one that chooses a folder."""

from __future__ import annotations

import os
from typing import Any

from PySide6.QtCore import Property, QEvent, QRect, Qt, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import (
    QAbstractButton,
    QFileDialog,
    QHBoxLayout,
    QMenu,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOption,
    QStyleOptionButton,
    QStylePainter,
    QWidget,
)

from .properties import stored_property
from .pythonqt import cpp_class

HEADER = 24
"""Height of a collapsible button's header, in pixels."""

ARROW = 14
"""Width of the arrow of a header or of a menu button, in pixels."""

UNLIMITED_HEIGHT = 16777215  # QWIDGETSIZE_MAX


@cpp_class
class ctkCollapsibleButton(QAbstractButton):
    """A header that shows and hides the widgets below it; `collapsed` is the opposite of `checked`."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        """Takes a text, a parent, both or neither."""
        super().__init__(_parent_of(arguments))
        self._shown_when_open: list[QWidget] = []
        self._collapsed = False
        self._folding = False
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, HEADER, 0, 0)
        self.setMinimumHeight(HEADER)
        self.setBackgroundRole(QPalette.Window)
        self.setSizePolicy(QSizePolicy.Minimum, QSizePolicy.Preferred)
        self.toggled.connect(self._on_toggled)
        self.setText(_text_of(arguments))

    def _on_toggled(self, checked: bool) -> None:
        self._collapsed = not checked
        self._folding = True
        if checked:
            self._unfold()
        else:
            self._fold()
        self._folding = False
        self.contentsCollapsed.emit(self._collapsed)

    def _fold(self) -> None:
        children = [child for child in self.children() if isinstance(child, QWidget)]
        self._shown_when_open = [child for child in children if not child.isHidden()]
        for child in self._shown_when_open:
            child.hide()
        self.setMaximumHeight(HEADER + self.collapsedHeight)

    def _unfold(self) -> None:
        for child in self._shown_when_open:
            child.show()
        self.setMaximumHeight(UNLIMITED_HEIGHT)

    def childEvent(self, event: Any) -> None:
        if event.type() == QEvent.ChildPolished:
            event.child().installEventFilter(self)
        super().childEvent(event)

    def eventFilter(self, child: Any, event: Any) -> bool:
        """A child that is shown while the button is collapsed appears only once it is opened."""
        if self._collapsed and not self._folding and event.type() == QEvent.ShowToParent:
            self._folding = True
            self._shown_when_open.append(child)
            child.hide()
            self._folding = False
        return bool(super().eventFilter(child, event))

    def hitButton(self, position: Any) -> bool:
        return bool(position.y() < HEADER)

    def paintEvent(self, event: Any) -> None:
        painter = QStylePainter(self)
        option = QStyleOptionButton()
        option.initFrom(self)
        option.rect = QRect(0, 0, self.width, HEADER)
        painter.drawControl(QStyle.CE_PushButtonBevel, option)
        arrow = QStyle.PE_IndicatorArrowRight if self._collapsed else QStyle.PE_IndicatorArrowDown
        _draw_arrow(painter, self, QRect(6, (HEADER - ARROW) // 2, ARROW, ARROW), arrow)
        text = QRect(ARROW + 12, 0, self.width - ARROW - 18, HEADER)
        painter.drawText(text, Qt.AlignLeft | Qt.AlignVCenter | Qt.TextShowMnemonic, self.text)

    collapsed = Property(bool, lambda self: self._collapsed, lambda self, value: self.setChecked(not value))
    collapsedHeight = stored_property(int, "collapsedHeight", 10)


@cpp_class
class ctkMenuButton(QPushButton):
    """A push button with a menu that opens from the arrow alone."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(_text_of(arguments), _parent_of(arguments))
        self._menu: QMenu | None = None

    def menu(self) -> QMenu | None:
        return self._menu

    def setMenu(self, menu: QMenu) -> None:
        self._menu = menu  # QPushButton's own menu would open, and wait, at every click

    def paintEvent(self, event: Any) -> None:
        super().paintEvent(event)
        painter = QStylePainter(self)
        place = QRect(self.width - ARROW - 4, (self.height - ARROW) // 2, ARROW, ARROW)
        _draw_arrow(painter, self, place, QStyle.PE_IndicatorArrowDown)


@cpp_class
class ctkDirectoryButton(QWidget):
    """A button that shows a folder and lets the user choose another."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def __init__(self, *arguments: Any) -> None:
        """Takes a folder, a parent, both or neither."""
        super().__init__(_parent_of(arguments))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._button = QPushButton()
        self._button.setIcon(self.style().standardIcon(QStyle.SP_DirIcon))
        self._button.clicked.connect(self.browse)
        layout.addWidget(self._button)
        self._directory = os.path.abspath(_text_of(arguments))
        self._show()

    def _set_directory(self, path: str) -> None:
        directory = os.path.abspath(path)  # an empty path stands for the working directory
        changed = directory != self._directory
        self._directory = directory
        self._show()
        self.directorySelected.emit(directory)
        if changed:
            self.directoryChanged.emit(directory)

    def _show(self, _text: str = "") -> None:
        self._button.text = self.text or self._directory

    def browse(self) -> str:
        chosen = QFileDialog.getExistingDirectory(self, self.caption or self.toolTip, self._directory)
        if chosen:
            self._set_directory(chosen)
        return chosen

    directory = Property(str, lambda self: self._directory, _set_directory)
    text = stored_property(str, "text", "", changed="_show")
    caption = stored_property(str, "caption", "")


def _text_of(arguments: tuple[Any, ...]) -> str:
    return next((argument for argument in arguments if isinstance(argument, str)), "")


def _parent_of(arguments: tuple[Any, ...]) -> QWidget | None:
    return next((argument for argument in arguments if isinstance(argument, QWidget)), None)


def _draw_arrow(painter: QStylePainter, widget: QWidget, place: QRect, arrow: QStyle.PrimitiveElement) -> None:
    option = QStyleOption()
    option.initFrom(widget)
    option.rect = place
    painter.drawPrimitive(arrow, option)
