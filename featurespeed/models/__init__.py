"""Networks, small and readable, with ``width`` and ``depth`` as arguments."""
