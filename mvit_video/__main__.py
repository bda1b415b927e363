"""`python -m mvit_video`."""

import sys

from mvit_video.cli import main

if __name__ == "__main__":
    sys.exit(main())
