"""Stand-ins for what Bazel 4 would download to build Python, made of the rules that it carries itself."""

_RULES = {
    "rules_cc": ["cc_binary", "cc_library", "cc_test", "cc_toolchain", "cc_toolchain_suite"],
    "rules_java": ["java_binary", "java_import", "java_library", "java_runtime", "java_toolchain"],
    "rules_python": ["py_binary", "py_library", "py_test"],
}

def _write_files(ctx):
    for path, text in ctx.attr.files.items():
        ctx.file(path, text)

_repository = repository_rule(implementation = _write_files, attrs = {"files": attr.string_dict()})

def offline_repositories():
    for name, rules in _RULES.items():
        package = name.split("_")[1]
        _repository(name = name, files = {
            package + "/BUILD": "",
            package + "/defs.bzl": "".join(["{0} = native.{0}\n".format(rule) for rule in rules]),
        })
    _repository(name = "remote_coverage_tools", files = {
        "BUILD": 'sh_binary(name = "coverage_report_generator", srcs = ["BUILD"], visibility = ["//visibility:public"])',
    })
