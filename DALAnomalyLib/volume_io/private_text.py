"""Free text of a header without what may identify the patient."""

from __future__ import annotations

import re
import unicodedata

from DALAnomalyLib.volume_io.dicom_elements import DataSet

_IDENTIFYING = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientBirthName",
    "OtherPatientIDs",
    "OtherPatientNames",
    "AccessionNumber",
)
_WORD = re.compile(r"[^\W_]+")
_LONG_NUMBER = re.compile(r"\d{5,}")
_DATE = re.compile(r"\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4}")
_MAXIMUM_LETTERS = 64


def cleaned_description(data_set: DataSet, name: str = "SeriesDescription") -> str:
    """A description without words of the patient's name, numbers and dates; numbers of five or more digits go too.

    A word goes when it is one of theirs or contains one of at least three letters, whatever its case and accents:
    a description that lost too much is no loss.
    """
    private = {word for source in _IDENTIFYING for word in _words(data_set.text(source))}
    contained = tuple(word for word in private if len(word) >= 3 or not word.isascii())

    def keep(match: re.Match[str]) -> str:
        word = _folded(match.group())
        hidden = word in private or any(part in word for part in contained) or _LONG_NUMBER.search(word)
        return "" if hidden else match.group()

    kept = _WORD.sub(keep, _DATE.sub("", data_set.text(name)))
    return " ".join(re.sub(r"([\s_^,;-])[\s_^,;-]+", r"\1", kept).strip(" _^,;-").split())[:_MAXIMUM_LETTERS]


def _words(text: str) -> list[str]:
    return [_folded(word) for word in _WORD.findall(text)]


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
