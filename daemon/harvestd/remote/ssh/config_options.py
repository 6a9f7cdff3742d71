"""Which options of ssh_config harvestd honours, and which it may pass over without a word.

Whatever is in neither set and differs from ssh's own default is named by `harvestd check`.
"""

from collections.abc import Iterable

HONOURED = frozenset({
    "host", "hostname", "port", "user", "identityfile", "identitiesonly", "identityagent", "certificatefile",
    "proxyjump", "proxycommand", "hostkeyalias", "userknownhostsfile", "globalknownhostsfile", "addressfamily",
    "bindaddress", "kexalgorithms", "macs", "hostkeyalgorithms",
    # These say how the others are to be read, and ssh -G has done so.
    "canonicaldomains", "canonicalizehostname", "canonicalizefallbacklocal", "canonicalizemaxdots",
    "canonicalizepermittedcnames", "ignoreunknown", "tag",
})  # fmt: skip
OF_NO_CONSEQUENCE = frozenset({
    # harvestd does by itself what the option asks for, or what it governs does not exist here.
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
"""What holds in place of an option that is ignored."""


def described(options: Iterable[str]) -> str:
    """Return ignored options as text, each with what holds in its place."""
    return ", ".join(f"{name} ({REPLACED[name]})" if name in REPLACED else name for name in options)
