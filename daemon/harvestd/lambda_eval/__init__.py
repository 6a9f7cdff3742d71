"""Remote eval jobs: a launcher on this machine keeps a file for each job and needs its results in the usual layout.

The launcher calls `LambdaEvaluationManager`; `harvestd sync` does the same on request, and the daemon automatically.
The launcher's files are untrusted input: bounded in size, never used as a path, and kept unchanged except for the two
keys that locate the results.
"""

from harvestd.lambda_eval.job_files import SyncFailed
from harvestd.lambda_eval.syncing import LambdaEvaluationManager

__all__ = ["LambdaEvaluationManager", "SyncFailed"]
