"""A setting that is written as text, in a variable or a flag, as the table that it would be in the file.

Which keys hold lists and tables, and so are JSON as text, pydantic-settings finds out from the models.
"""

from collections.abc import Mapping, Sequence

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from harvestd.settings.schema import DELIMITER, PREFIX, Settings


class _Written(Settings, BaseSettings):
    """The keys of `Settings`, for pydantic-settings to look up. Nothing is ever made from it."""

    model_config = SettingsConfigDict(case_sensitive=True, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)


NotJson = SettingsError
"""Raised where a list or a table is not written as JSON; it may quote the value."""


def table_of(steps: Sequence[str], value: str) -> Mapping[str, object]:
    """Return the table for the key at `steps`; an empty one for a key that does not exist. Raises `NotJson`."""
    source = EnvSettingsSource(_Written)
    source.env_vars = {PREFIX + DELIMITER.join(steps): value}
    return source()
