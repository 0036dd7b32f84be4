"""Everything that can go wrong in a way the user can mend, one class per kind.

Each class carries the exit code the command line ends with. Messages are one line: what is wrong, where, what to do
next.
"""


class DALAnomalyError(Exception):
    """Base of every expected failure; anything else is a defect of the program."""

    exit_code = 1


class UsageError(DALAnomalyError):
    """Unknown sequence, bad option or bad configuration."""

    exit_code = 2


class InputError(DALAnomalyError):
    """Missing, unreadable or truncated file, or an image that is not a plausible 3D MR scan."""

    exit_code = 3


class GeometryError(DALAnomalyError):
    """Arrays on different grids, absurd voxel size, degenerate direction."""

    exit_code = 4


class ModelFileError(DALAnomalyError):
    """Model file missing, tampered with, or of another version."""

    exit_code = 5


class DeviceError(DALAnomalyError):
    """The requested device is absent or unusable."""

    exit_code = 6


class OutputError(DALAnomalyError):
    """Unwritable folder, full disk, or outputs that exist already."""

    exit_code = 7


class CancelledError(DALAnomalyError):
    """The run was cancelled."""

    exit_code = 130
