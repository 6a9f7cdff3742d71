"""From a call's flags to valid settings; raises `Fatal`, which `ending` says."""

from pathlib import Path

from harvestd.cli.flags import Flags
from harvestd.settings import Settings, find_config, load


def config_of(flags: Flags) -> Path:
    """Give the configuration file that is meant; raises `Fatal` where there is none."""
    return find_config(flags.config)


def settings_of(flags: Flags) -> Settings:
    """Give the settings: flags over environment over file; raises `InvalidSettings` with every problem."""
    return load(config_of(flags), flags.overrides)
