"""What an audit finds: one line for each thing that is not as it is on record."""

from enum import StrEnum

from harvestd.convention.structs import Immutable


class Kind(StrEnum):
    """What is wrong."""

    CATALOGUE = "catalogue"
    """The catalogue can't be read, or is gone."""
    MISSING = "missing"
    """On record, and not there."""
    CHANGED = "changed"
    """Its content is not what was filed: damage, or a person's edit."""
    IN_THE_WAY = "in the way"
    """A link, a directory or what can't be read stands where a file belongs."""
    LAX = "lax"
    """It may be executed, or has special bits: modes that harvestd never gives."""
    TEMPORARY = "temporary"
    """Left in staging by nobody who goes on with it."""
    UNSETTLED = "unsettled"
    """Was about to be published, or removed, when a process ended; the next start settles it."""
    MANIFEST = "manifest"
    """An experiment's manifest.json can't be read."""
    BEHIND = "behind"
    """An experiment's manifest.json does not say all that the catalogue does; it is written every now and then."""
    LONGER = "longer"
    """More stands there than was recorded; the next start sees whether it belongs to its source."""
    FOREIGN = "foreign"
    """Not harvestd's: a person's own file or link in an experiment's directory."""


_HARMLESS = frozenset({Kind.BEHIND, Kind.LONGER, Kind.FOREIGN, Kind.UNSETTLED, Kind.LAX})


class Finding(Immutable):
    """One thing that is not as it is on record."""

    kind: Kind
    path: str
    """Below the data root."""
    detail: str = ""

    @property
    def is_damage(self) -> bool:
        """Whether something has to be put right."""
        return self.kind not in _HARMLESS
