"""`python -m deploy` is `moodstream`, for a checkout that is not installed."""

import sys

from deploy.cli import main

if __name__ == "__main__":
    sys.exit(main())
