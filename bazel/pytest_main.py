"""Runs pytest on the files named, as bazel/pytest.bzl asks for each test target."""
import sys

import pytest

if __name__ == '__main__':
  sys.exit(pytest.main(['-p', 'no:cacheprovider', *sys.argv[1:]]))
