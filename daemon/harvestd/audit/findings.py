"""The findings of an audit: one for each difference from the records."""

from enum import StrEnum

from harvestd.convention.structs import Immutable


class Kind(StrEnum):
    """The kind of a finding."""

    CATALOGUE = "catalogue"
    """The catalogue can't be read, or is gone."""
    MISSING = "missing"
    """Recorded, but absent."""
    CHANGED = "changed"
    """Its content differs from what was published: damage, or a person's edit."""
    IN_THE_WAY = "in the way"
    """A link, a directory or something unreadable is in place of a file."""
    LAX = "lax"
    """It is executable, or has special bits: modes that harvestd never sets."""
    TEMPORARY = "temporary"
    """Left in staging without a transfer that resumes it."""
    UNSETTLED = "unsettled"
    """Was about to be published or removed when a process ended; the next start completes that."""
    MANIFEST = "manifest"
    """An experiment's manifest.json can't be read."""
    BEHIND = "behind"
    """An experiment's manifest.json lacks entries of the catalogue; it is written with a delay."""
    LONGER = "longer"
    """It is longer than recorded; the next start checks whether the rest belongs to its source."""
    FOREIGN = "foreign"
    """A person's own file or link in an experiment's directory."""


_HARMLESS = frozenset({Kind.BEHIND, Kind.LONGER, Kind.FOREIGN, Kind.UNSETTLED, Kind.LAX})


class Finding(Immutable):
    """One difference from the records."""

    kind: Kind
    path: str
    """Relative to the data root."""
    detail: str = ""

    @property
    def is_damage(self) -> bool:
        """Whether a repair is required."""
        return self.kind not in _HARMLESS
