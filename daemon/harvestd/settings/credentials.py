"""Find the key of the cloud's API: the possible places, in their order. It is returned as a `SecretStr` only.

It is read each time that it is needed, so that a changed key is used without a restart. The content of a file is never
quoted, not even where it can't be a key.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import SecretStr

from harvestd.errors import Retry
from harvestd.settings.sections import LambdaCloud

VARIABLES = ("LAMBDA_API_KEY", "LAMBDA_CLOUD_API_TOKEN")
USUAL_FILE = Path("~/.lambda_cloud/lambda_keys")
"""Written by the cloud's own tools, as `api_key = …`."""
CREDENTIAL = "lambda-api-key"
"""The name of a systemd credential."""

_MOST_BYTES = 4_096
_KEY = re.compile(r"[\x21-\x7e]{8,512}")
_NAMED = re.compile(r"^\s*api_key\s*=\s*[\"']?(?P<key>[^\"'\s]+)", re.MULTILINE)


class NoKey(Retry):
    """No key is available now; one may be added later."""


def api_key(cloud: LambdaCloud, env: Mapping[str, str] | None = None) -> SecretStr:
    """Return the key from the first place that has one; raise `NoKey`, which names the invalid place.

    `env` replaces the process's environment if given. Reads small files: do not call it on an event loop.
    """
    env = os.environ if env is None else env
    for place, text in _places(cloud, env):
        named = _NAMED.search(text)
        key = named["key"] if named else text.strip()
        if not _KEY.fullmatch(key):
            raise NoKey(f"what stands in {place} is no API key", hint="it is one word, or a line `api_key = …`")
        return SecretStr(key)
    raise NoKey(
        "no API key for the cloud was found",
        hint=f"set lambda_cloud.api_key_file, {VARIABLES[0]}, or a systemd credential {CREDENTIAL}",
    )


def _places(cloud: LambdaCloud, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each existing place, and its text."""
    if cloud.api_key is not None:
        yield "lambda_cloud.api_key", cloud.api_key.get_secret_value()
    if cloud.api_key_file is not None:
        yield from _file(cloud.api_key_file, is_asked_for=True)
    for name in VARIABLES:
        if env.get(name):
            yield f"${name}", env[name]
    if "HOME" in env:
        yield from _file(Path(env["HOME"], *USUAL_FILE.parts[1:]), is_asked_for=False)
    if env.get("CREDENTIALS_DIRECTORY"):
        yield from _file(Path(env["CREDENTIALS_DIRECTORY"], CREDENTIAL), is_asked_for=False)


def _file(path: Path, *, is_asked_for: bool) -> Iterator[tuple[str, str]]:
    """Yield a file's place and text; a missing one is an error only if it was configured."""
    try:
        with path.open("rb") as file:
            yield str(path), file.read(_MOST_BYTES).decode("ascii", "replace")
    except FileNotFoundError:
        if is_asked_for:
            raise NoKey(
                f"the file of the API key, {path}, does not exist", hint="check lambda_cloud.api_key_file"
            ) from None
    except OSError as e:
        raise NoKey(f"the file of the API key, {path}, can't be read: {e.strerror}") from None
