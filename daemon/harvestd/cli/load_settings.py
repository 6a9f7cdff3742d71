"""Load valid settings from a call's flags; raise `Fatal`, which `errors` prints."""

from pathlib import Path

from harvestd.cli.flags import Flags
from harvestd.settings import Settings, find_config, load
from harvestd.settings.access import require_access, require_account


def config_of(flags: Flags) -> Path:
    """Return the path of the configuration file.

    Raise `Fatal` where there is none, and where it belongs to the machine's daemon and this process runs as another
    account.
    """
    config = find_config(flags.config)
    require_account(config)
    return config


def written_settings(flags: Flags) -> Settings:
    """Return the settings: flags override the environment, which overrides the file.

    Raise `InvalidSettings` with every problem.
    """
    return load(config_of(flags), flags.overrides)


def settings_of(flags: Flags) -> Settings:
    """Return the settings as `written_settings`.

    Raise `Fatal` where this process may not access data root or catalogue.
    """
    settings = written_settings(flags)
    require_access(settings)
    return settings
