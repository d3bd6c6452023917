"""`python -m dynamicrafter_core` is `dynamicrafter`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
