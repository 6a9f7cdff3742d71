"""Where a host is, and over which hosts the way leads there."""

from pathlib import Path

import pytest

from harvestd.errors import HostQuarantined
from harvestd.remote.ssh.host_keys import HostKey, algorithms
from harvestd.remote.ssh.target import Target

TARGET = Target("gpu-a", "192.0.2.1", 2222, "ubuntu", (Path("/k"),))


def test_errors_name_it() -> None:
    """A target reads as errors show it."""
    assert str(TARGET) == "gpu-a (ubuntu@192.0.2.1:2222)"


@pytest.mark.parametrize(
    ("spec", "identity", "user", "address", "port", "before"),
    [
        ("gate", "jump:gate:22", "", "gate", 0, ""),
        ("me@gate:2200", "jump:gate:2200", "me", "gate", 2200, ""),
        ("ssh://me@gate:2200", "jump:gate:2200", "me", "gate", 2200, ""),
        ("[2001:db8::1]:2200", "jump:2001:db8::1:2200", "", "2001:db8::1", 2200, ""),
        ("2001:db8::1", "jump:2001:db8::1:22", "", "2001:db8::1", 0, ""),
        ("a, b@c:22", "jump:c:22", "b", "c", 22, "a"),
        ("a,b,c", "jump:c:22", "", "c", 0, "a,b"),
    ],
)
def test_jump_hosts(spec: str, identity: str, user: str, address: str, port: int, before: str) -> None:
    """The last hop is a target of its own, reached through those before it; user and keys are only its defaults."""
    jump = TARGET.jump(spec)
    assert (jump.identity, jump.user, jump.address, jump.port) == (identity, user, address, port)
    assert jump.proxy_jump == before
    assert (jump.identity_files, jump.default_identity_files) == ((), TARGET.identity_files)
    assert jump.default_user == TARGET.user


@pytest.mark.parametrize("spec", ["", "a,", "me@", "gate:0", "gate:70000", "gate:x", "[::1]:y"])
def test_unreadable_jump_hosts(spec: str) -> None:
    """A spec that names no host is the operator's to mend."""
    with pytest.raises(HostQuarantined, match="gpu-a"):
        TARGET.jump(spec)


def test_pinned_kind_is_asked_for_first() -> None:
    """The kept key's algorithms come first, all others follow, certificates never."""
    assert algorithms(None)[0] == "ssh-ed25519"
    assert algorithms(HostKey("ssh-rsa", b""))[:2] == ["rsa-sha2-512", "rsa-sha2-256"]
    assert algorithms(HostKey("ecdsa-sha2-nistp384", b""))[0] == "ecdsa-sha2-nistp384"
    for pin in (None, HostKey("ssh-rsa", b""), HostKey("unheard-of", b"")):
        assert sorted(algorithms(pin)) == sorted(algorithms(None))
        assert not any("cert" in name for name in algorithms(pin))


def test_host_key_lines() -> None:
    """A key line is read with and without comment, written back, and compared by its content."""
    key = HostKey.parse("ssh-ed25519 AAAAC3Nz a comment")
    assert str(key) == "ssh-ed25519 AAAAC3Nz"
    assert key.same_as(HostKey.parse(str(key)))
    assert not key.same_as(HostKey.parse("ssh-ed25519 AAAAC3N0"))
    for line in ("", "ssh-ed25519", "ssh-ed25519 !!"):
        with pytest.raises(ValueError, match="not"):
            HostKey.parse(line)
