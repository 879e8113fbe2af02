"""`python -m corral_kernel.worker SETUP`, started by the server alone."""

import sys

from corral_kernel.worker.beginning import main

if __name__ == "__main__":
    main(sys.argv[1])
