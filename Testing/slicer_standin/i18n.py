"""`slicer.i18n`: no language is installed, so every text stays as it is."""

from __future__ import annotations


def tr(text: str) -> str:
    """The text in the user's language; the context is the calling file."""
    return text


def translate(context: str, text: str) -> str:
    """The text in the user's language, as translated for `context`."""
    return text
