"""The operator's settings: one TOML file, overridden by variables and flags, as frozen models.

Of the other packages only basic ones are imported, so that importing this one loads neither SSH nor a database.
"""

from harvestd.settings.load import find_config, load
from harvestd.settings.notify import Notify
from harvestd.settings.problems import InvalidSettings, Problem, warnings_for
from harvestd.settings.schema import HostSettings, Named, Settings
from harvestd.settings.sections import (
    DEFAULT_USER,
    Jobs,
    LambdaCloud,
    Limits,
    Naming,
    NamingRule,
    Poll,
    Release,
    Remote,
    Report,
    Select,
    Ssh,
    Targets,
    Verdict,
    default_identity_files,
)

__all__ = [
    "DEFAULT_USER",
    "HostSettings",
    "InvalidSettings",
    "Jobs",
    "LambdaCloud",
    "Limits",
    "Named",
    "Naming",
    "NamingRule",
    "Notify",
    "Poll",
    "Problem",
    "Release",
    "Remote",
    "Report",
    "Select",
    "Settings",
    "Ssh",
    "Targets",
    "Verdict",
    "default_identity_files",
    "find_config",
    "load",
    "warnings_for",
]
