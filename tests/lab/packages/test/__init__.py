"""Tests of the stand-ins against facts carried over from recordings of Kubernetes 1.28.4, and of the archive.

    python3 -m unittest discover -s tests/lab/packages/test -t tests/lab/packages

They need PyYAML and cryptography, as the stand-ins do.
"""

import os
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = tempfile.TemporaryDirectory(prefix="standin-")
# Before the first import of a stand-in: it keeps everything below this directory.
os.environ["STANDIN_ROOT"] = ROOT.name
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "standin")]
