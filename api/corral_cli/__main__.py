"""`python -m corral_cli`, for where no `corral` script is installed or wanted."""

import sys

from corral_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
