"""How strongly the pair generator varies brains and scanners."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from DALAnomalyLib.errors import UsageError

_CHANCES = ("semi_real_share", "thick_slice_chance", "anatomical_noise_core", "anatomical_noise_shift")
_SIZES = ("deformation_spacing_mm", "texture_cells_mm")


@dataclass(frozen=True)
class GeneratorConfig:
    """Ranges of every random effect; a range of 0 turns the effect off."""

    semi_real_share: float = 0.35
    """Share of subjects with a real T1, as far as the pack has any; real pairs and label maps share the rest."""
    cluster_pairs: bool = False
    """Tissues of real pairs by clustering their intensities, not unknown: for a warm start of E_A without labels."""
    rotation_degrees: float = 10.0
    translation_mm: float = 4.0
    scaling: float = 0.1
    shearing: float = 0.04
    deformation_mm: float = 3.0
    """Standard deviation of the displacement, on control points `deformation_spacing_mm` apart."""
    deformation_spacing_mm: float = 28.0
    atrophy_mm: float = 0.0
    """Widest that ventricles and, apart from them, sulci grow at the cost of tissue; not where an image is real."""
    centre_spread: float = 1.5
    """How far class means stray from their measured priors, in units of the priors' own spread between scans."""
    class_contrast: float = 0.06
    """Further independent change of every class mean, as a share of the sequence's range."""
    texture: float = 0.6
    """Within-class variation, in units of the measured one."""
    texture_cells_mm: float = 7.0
    """Size of the smooth part of the texture."""
    blur_voxels: float = 0.6
    """Largest standard deviation of the point spread function."""
    thick_slice_chance: float = 0.4
    thick_slice_mm: float = 5.0
    bias_field: float = 0.12
    """Standard deviation of the logarithm of the residual bias field."""
    noise: float = 0.04
    """Largest standard deviation of the Rician noise, as a share of the brightest tissue."""
    gamma: float = 0.15
    """Standard deviation of the logarithm of the exponent of the contrast curve."""
    rim_mm: float = 7.5
    """Brain masks keep between nothing and this much of the CSF around the brain, or all of it."""
    anatomical_noise_regions: int = 3
    """Most regions whose tissue is replaced in A before its edges are taken (section 4.8.2); 0 turns it off."""
    anatomical_noise_mm: tuple[float, float] = (6.0, 32.0)
    """Smallest and largest radius of such a region."""
    anatomical_noise_core: float = 0.0
    """Chance that a region has a core of yet another tissue."""
    anatomical_noise_shift: float = 0.0
    """Chance that a region does not get one tissue, but has its tissues shifted towards CSF or white matter, gradually
    and with texture, as E_A answers to intensities that change gradually."""
    edge_noise_regions: int = 0
    """Most regions, of the same sizes, in which edges are left out or spurious ones drawn; 0 turns it off."""

    def __post_init__(self) -> None:
        smallest, largest = self.anatomical_noise_mm
        if not 0 < smallest <= largest:
            msg = f"generator option anatomical_noise_mm is {smallest}, {largest}; give radii above 0, smaller first"
            raise UsageError(msg)
        for name, value in asdict(self).items():
            if name == "anatomical_noise_mm":
                continue
            if not (0 <= value <= 1 if name in _CHANCES else value >= 0) or (name in _SIZES and value == 0):
                allowed = "from 0 to 1" if name in _CHANCES else "above 0" if name in _SIZES else "at least 0"
                msg = f"generator option {name} is {value!r}; it must be {allowed}"
                raise UsageError(msg)
