"""The table [notify]: what it takes, and that no problem quotes an address or a secret."""

from pathlib import Path

import pytest

from harvestd.settings import InvalidSettings, load
from harvestd.settings import notify as section
from harvestd.settings.notify import Notify, webhook_key

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  (the example of the rules of Standard Webhooks)


def loaded(directory: Path, lines: str) -> Notify:
    """Load a file with these lines in [notify]."""
    path = directory / "harvestd.toml"
    path.write_text(f"version = 1\n[notify]\n{lines}\n")
    return load(path, env={}).notify


def problems(directory: Path, lines: str) -> str:
    """Return the problems of such a file as text."""
    with pytest.raises(InvalidSettings) as caught:
        loaded(directory, lines)
    return str(caught.value)


def test_values_are_taken_and_not_shown(tmp_path: Path) -> None:
    """Addresses and secrets are hidden in each form of the value; paths begin at the file."""
    lines = [
        'urls = ["ntfy://ada:opensesame@ntfy.sh/topic"]',
        'webhook = "https://hooks.example.org/opensesame"',
        'webhook_secret_file = "secret"',
        'heartbeat_url = "https://hc-ping.com/opensesame"',
        'quiet_hours = "22:00 - 07:30"',
        'command = ["alarm", "--now"]',
        'unwatched_after = "2h"',
    ]
    notify = loaded(tmp_path, "\n".join(lines))
    assert "opensesame" not in f"{notify!r} {notify} {notify.model_dump()} {notify.model_dump_json()}"
    assert notify.webhook is not None
    assert notify.webhook.get_secret_value() == "https://hooks.example.org/opensesame"
    assert notify.webhook_secret_file == tmp_path / "secret"
    assert notify.quiet_hours == (22 * 60, 7 * 60 + 30)
    assert "host.lost_data" in notify.events


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('webhook = "hooks.example.org/opensesame"', "notify.webhook: must be a URL"),
        ('webhook = "ftp://hooks.example.org/opensesame"', "notify.webhook: must be a URL"),
        ('webhook = "https://hooks.example.org:opensesame/"', "notify.webhook: must be a URL"),
        ('urls = ["opensesame"]', "notify.urls[0]: must be a URL of apprise"),
        ('heartbeat_url = "opensesame"', "notify.heartbeat_url: must be a URL"),
        ('webhook = "https://x"\nwebhook_secret = "opensesame"', 'notify.webhook_secret: must be "whsec_"'),
        (f'webhook_secret = "{SECRET}"', "notify.webhook_secret: is set, and 'webhook' is not"),
        ('webhook_secret_file = "x"', "notify.webhook_secret_file: is set, and 'webhook' is not"),
        ('quiet_hours = "22-7"', "notify.quiet_hours: must be two times of the day"),
        ('quiet_hours = "24:00-07:00"', "notify.quiet_hours: must be two times of the day"),
        ('quiet_hours = "07:00-07:00"', "notify.quiet_hours: must not end when they begin"),
        ('events = ["run.exploded"]', "notify.events[0]: must be 'host.drained'"),
        ('unwatched_after = "5s"', "notify.unwatched_after: must be between 1m and 7d"),
        ('url = "ntfy://x"', "did you mean 'urls'?"),
    ],
)
def test_problems_name_the_key_and_quote_nothing(tmp_path: Path, line: str, problem: str) -> None:
    """A value may be a secret on a wrong line."""
    said = problems(tmp_path, line)
    assert problem in said
    assert "opensesame" not in said


def test_without_apprise_the_way_to_get_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All other receivers need nothing further."""
    monkeypatch.setattr(section, "find_spec", lambda _: None)
    said = problems(tmp_path, 'urls = ["ntfy://ntfy.sh/topic"]')
    assert "notify.urls[0]: needs apprise, which is not installed: pip install 'harvestd[notify]'" in said
    assert loaded(tmp_path, 'webhook = "https://hooks.example.org"').webhook is not None


def test_a_secret_is_of_the_published_form() -> None:
    """Prefix and base64, of a length that is safe."""
    assert len(webhook_key(SECRET)) == 24
    for wrong in ("", "whsec_", "whsec_c2hvcnQ=", SECRET.removeprefix("whsec_"), "whsec_é", f"whsec_{'A' * 400}"):
        with pytest.raises(ValueError, match="must be"):
            webhook_key(wrong)
