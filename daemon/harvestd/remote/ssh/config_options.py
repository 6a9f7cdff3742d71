"""Which options of ssh_config harvestd honours, and which it may ignore without a warning.

`harvestd check` names every option that is in neither set and differs from ssh's own default.
"""

from collections.abc import Iterable

HONOURED = frozenset({
    "host", "hostname", "port", "user", "identityfile", "identitiesonly", "identityagent", "certificatefile",
    "proxyjump", "proxycommand", "hostkeyalias", "userknownhostsfile", "globalknownhostsfile", "addressfamily",
    "bindaddress", "kexalgorithms", "macs", "hostkeyalgorithms",
    # These control how the others are read, and ssh -G has applied them.
    "canonicaldomains", "canonicalizehostname", "canonicalizefallbacklocal", "canonicalizemaxdots",
    "canonicalizepermittedcnames", "ignoreunknown", "tag",
})  # fmt: skip
OF_NO_CONSEQUENCE = frozenset({
    # harvestd already behaves as the option asks, or the feature that it controls is not used here.
    "addkeystoagent", "batchmode", "checkhostip", "enableescapecommandline", "escapechar", "fingerprinthash",
    "hashknownhosts", "loglevel", "logverbose", "numberofpasswordprompts", "stdinnull", "syslogfacility",
    "updatehostkeys", "visualhostkey", "xauthlocation", "forwardx11timeout", "forwardx11trusted",
})  # fmt: skip
REPLACED = {
    "connecttimeout": "ssh.connect_timeout holds",
    "controlmaster": "harvestd shares its own connections",
    "controlpath": "harvestd shares its own connections",
    "controlpersist": "harvestd shares its own connections",
    "serveralivecountmax": "ssh.keepalive holds",
    "serveraliveinterval": "ssh.keepalive holds",
    "stricthostkeychecking": "ssh.host_keys holds",
}
"""What applies instead of an ignored option."""


def described(options: Iterable[str]) -> str:
    """Return ignored options as text, each with what applies instead."""
    return ", ".join(f"{name} ({REPLACED[name]})" if name in REPLACED else name for name in options)
