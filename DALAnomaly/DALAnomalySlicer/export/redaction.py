"""Text without what may tell whose scan or computer it comes from.

What looks private goes, even if it was not: text that lost too much is no loss.
"""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Iterable

_SHORTEST_WORD = 3
# A path may hold spaces. It ends at a quote, at the punctuation with which our messages go on, and at brackets and
# commas unless another separator follows them.
_PATH = re.compile(
    r"""(?<![\w.~/\\>])                      # not inside a word, a relative path or a URL
    (?: file:/+ | ~?/(?=[^\s/]) | ~\\ | [A-Za-z]:[\\/] | \\\\(?=\w) )
    (?: [^"'<>|*?\r\n:;,()\[\]{}]
      | (?<=\w)'(?=\w)
      | [:;](?=\S)
      | [,()\[\]{}](?=[^"'\r\n:;]*[\\/])
    )*""",
    re.VERBOSE,
)
_SOURCE = re.compile(r"[\w.]+\.py$")
_PRIVATE = (
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+"), "<address>"),
    (re.compile(r"\b\d+(?:\.\d+){5,}\b"), "<identifier>"),  # of DICOM objects; versions have fewer parts
    (re.compile(r"[^\W\d_][\w'.-]*\^[\w'.^-]*"), "<name>"),  # Family^Given, as DICOM writes names
    (re.compile(r"\b(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4})(?:T[\d:.+]+Z?)?"), "<date>"),
    (re.compile(r"(?<![\w.])\d{6,}(?![\w.]*\w)"), "<number>"),
)


def redacted(text: str, private: Iterable[str] = ()) -> str:
    """Replace absolute paths, names of user and computer, names, dates, identifiers and long numbers.

    Args:
        text: any text.
        private: further words to replace, such as the name of the scan; shorter than three letters they stay.

    Returns:
        The text with `<path>`, `<user>`, `<name>`, ... in their places; of Python files the last name stays.
    """
    text = _PATH.sub(_shortened, text)
    for word, placeholder in _words(private):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", placeholder, text, flags=re.IGNORECASE)
    for pattern, placeholder in _PRIVATE:
        text = pattern.sub(placeholder, text)
    return text


def _shortened(path: re.Match[str]) -> str:
    source = _SOURCE.search(path.group().rstrip())
    return f"<path>/{source.group()}" if source else "<path>"


def _words(private: Iterable[str]) -> list[tuple[str, str]]:
    """Words to replace, the longest first, so that a part of a name leaves no rest."""
    computer = socket.gethostname()
    words = [(word, "<private>") for word in private]
    words += [(_user(), "<user>"), (computer, "<computer>"), (computer.partition(".")[0], "<computer>")]
    return sorted((pair for pair in words if len(pair[0]) >= _SHORTEST_WORD), key=lambda pair: -len(pair[0]))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no name for the user's number
        return ""
