"""From a call's flags to valid settings; raises `Fatal`, which `ending` says."""

from pathlib import Path

from harvestd.cli.flags import Flags
from harvestd.settings import Settings, find_config, load
from harvestd.settings.access import require_access, require_account


def config_of(flags: Flags) -> Path:
    """Return the configuration file that is meant.

    Raises `Fatal` where there is none, and where it is the machine's daemon's and this process runs as another account.
    """
    config = find_config(flags.config)
    require_account(config)
    return config


def written_settings(flags: Flags) -> Settings:
    """Return the settings: flags over environment over file; raises `InvalidSettings` with every problem."""
    return load(config_of(flags), flags.overrides)


def settings_of(flags: Flags) -> Settings:
    """Return the same to work with; raises `Fatal` where data root or catalogue are closed to this process, too."""
    settings = written_settings(flags)
    require_access(settings)
    return settings
