"""Parse a setting in text form, from a variable or a flag, into the table that it would be in the file.

pydantic-settings finds out from the models which keys hold lists and tables, which are JSON in text form.
"""

from collections.abc import Mapping, Sequence

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from harvestd.settings.schema import DELIMITER, PREFIX, Settings


class _Written(Settings, BaseSettings):
    """The keys of `Settings`, for pydantic-settings to look up. It is never instantiated."""

    model_config = SettingsConfigDict(case_sensitive=True, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)


NotJson = SettingsError
"""Raised where a list or a table is not written as JSON; it may quote the value."""


def table_of(steps: Sequence[str], value: str) -> Mapping[str, object]:
    """Return the table for the key at `steps`; an empty one for a key that does not exist. Raise `NotJson`."""
    source = EnvSettingsSource(_Written)
    source.env_vars = {PREFIX + DELIMITER.join(steps): value}
    return source()
