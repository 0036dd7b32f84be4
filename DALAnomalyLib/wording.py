"""Small words that messages share."""


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 scan", "3 scans"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
