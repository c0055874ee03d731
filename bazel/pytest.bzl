"""Test files as Bazel tests: pytest runs them, from the python3 on PATH."""

load("@rules_python//python:defs.bzl", "py_test")

def pytest_test(name, folder = None, srcs = [], data = []):
    """A test of some files, or of all below a folder."""
    srcs = srcs + (native.glob([folder + "/**/test_*.py"]) if folder else [])
    py_test(
        name = name,
        srcs = srcs + ["bazel/pytest_main.py"],
        args = srcs,
        data = data + ["pyproject.toml"],
        legacy_create_init = 0,  # tests/charlm is no package
        main = "bazel/pytest_main.py",
        deps = [
            ":benchmarks",
            ":commands",
            ":tests",
        ],
    )
