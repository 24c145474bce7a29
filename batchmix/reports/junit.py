"""The checks of a run as JUnit XML, which continuous integration shows as tests.

The form is that of Jenkins' `jenkins-junit.xsd` and of Apache Ant's `JUnit.xsd`, so that it is valid by both.
"""

from __future__ import annotations

from xml.etree import ElementTree

from batchmix import __version__
from batchmix.formats.display import clean
from batchmix.formats.run_times import now_text
from batchmix.reports.checks import Check, CheckedRun

JUNIT_MARK = b"<!-- batchmix "
"""What is in each such file that batchmix has written."""
_MAX_CHARS = 2_000


def junit_xml(run: CheckedRun) -> bytes:
    """Return the checks of a run as JUnit XML, with a test suite for each model. Control characters are escaped."""
    root = ElementTree.Element("testsuites")
    models = list(dict.fromkeys(check.model for check in run.checks))
    for number, model in enumerate(models or [""]):
        _suite(root, number, run, model)
    ElementTree.indent(root)
    declaration = f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- batchmix {__version__} -->\n'
    body: bytes = ElementTree.tostring(root, "utf-8")
    return declaration.encode() + body + b"\n"


def _suite(root: ElementTree.Element, number: int, run: CheckedRun, model: str) -> None:
    checks = [check for check in run.checks if check.model == model]
    errors = sum(bool(check.failure) and check.kind == "stopped" for check in checks)
    name = clean(f"{run.name}: {model}" if model else run.name, _MAX_CHARS)
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {
            "name": name,
            "package": clean(run.name, _MAX_CHARS),
            "id": str(number),
            "tests": str(len(checks)),
            "failures": str(sum(bool(check.failure) for check in checks) - errors),
            "errors": str(errors),
            "time": "0",
            "timestamp": now_text().removesuffix("Z"),
            "hostname": "localhost",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    about = {"run": str(run.folder), "against": run.diff.before if run.diff else ""}
    for key, value in about.items():
        if value:
            ElementTree.SubElement(properties, "property", {"name": key, "value": clean(value, _MAX_CHARS)})
    for check in checks:
        _case(suite, name, check)
    ElementTree.SubElement(suite, "system-out")
    ElementTree.SubElement(suite, "system-err")


def _case(suite: ElementTree.Element, classname: str, check: Check) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", {"name": clean(check.name, _MAX_CHARS), "classname": classname, "time": "0"}
    )
    if check.failure:
        text = clean(check.failure, _MAX_CHARS)
        tag = "error" if check.kind == "stopped" else "failure"
        ElementTree.SubElement(case, tag, {"message": text, "type": check.kind}).text = text
