"""Why a remote eval job could not be synced."""

from harvestd.errors import Fatal


class SyncFailed(Fatal):
    """Not all results of a job are here; `exit_code` says what stands in the way.

    UNKNOWN_NAME: no such job, or a file that can't be used. NO_HOST: its box does not answer, or nobody knows it.
    PARTIAL: something is missing yet. DISK_FULL: no room. LOCKED: another harvestd works on the data root, and has not
    brought it so far. CONFIGURATION: harvestd can't work as it was asked to.
    """
