"""The error of a remote eval job that could not be synced."""

from harvestd.errors import Fatal


class SyncFailed(Fatal):
    """Not all results of a job are here; `exit_code` identifies the reason.

    UNKNOWN_NAME: no such job, or a file that can't be used. NO_HOST: its host does not answer, or is unknown. PARTIAL:
    something is still missing. DISK_FULL: no space. LOCKED: another harvestd holds the data root, and has not fetched
    the results so far. CONFIGURATION: the request or the configuration is invalid.
    """
