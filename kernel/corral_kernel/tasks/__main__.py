"""`python -m corral_kernel.tasks SETUP`, started by the server alone."""

import sys

from corral_kernel.tasks.working import main

if __name__ == "__main__":
    main(sys.argv[1])
