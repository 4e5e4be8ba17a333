"""Run the command line: ``python -m lab``."""

import sys

try:
    from lab.cli import main
except KeyboardInterrupt:  # interrupted before there was anything to interrupt
    sys.exit(130)

if __name__ == "__main__":
    main()
