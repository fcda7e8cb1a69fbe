"""The flex template's entry: its launcher runs this file, and waits until it ends."""

import sys

from pipelines.deploy.entry import launch

if __name__ == "__main__":
    launch(sys.argv[1:])
