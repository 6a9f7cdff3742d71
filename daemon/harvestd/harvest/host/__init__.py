"""The work on one connected host: scan it, index its runs, execute its plan, check its health."""
