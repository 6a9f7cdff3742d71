"""Which options of ssh_config harvestd honours, and which it may pass over without a word.

Whatever is in neither set and differs from ssh's own default is named by `harvestd check`.
"""

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
