"""``python -m featurespeed``: the command line."""

import sys

from featurespeed.own.command import main

if __name__ == "__main__":
    sys.exit(main())
