"""One connected host: scan it, learn what it shows, execute its plan, check its health."""
