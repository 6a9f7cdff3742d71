"""Remote eval jobs: a launcher on this machine keeps a file for each, and wants the results along the convention.

`LambdaEvaluationManager` is what the launcher calls; `harvestd sync` does the same by hand, and the daemon by itself.
What the launcher wrote is input like any other: bounded in size, never taken for a path, kept as it is but for the two
keys that say where the results are.
"""

from harvestd.lambda_eval.failures import SyncFailed
from harvestd.lambda_eval.manager import LambdaEvaluationManager

__all__ = ["LambdaEvaluationManager", "SyncFailed"]
