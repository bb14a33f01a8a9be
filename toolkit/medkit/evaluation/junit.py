"""JUnit XML of a parity run, so that systems for continuous integration show each rule."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from medkit.evaluation.parity import Parity
from medkit.files import replacing

_NO_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold. The name of a file may have them."""


def write_junit(parity: Parity, path: Path) -> None:
    """Write the comparisons as JUnit XML, atomically: a test case for each rule of an export."""
    root = ElementTree.Element("testsuites", name="medkit parity")
    for item in parity.comparisons:
        failed = len(item.failures)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=f"{item.task}/{item.file} on {item.runtime}",
            tests=str(len(item.gates)),
            failures=str(failed),
        )
        owner = f"{item.task}.{item.file}.{item.runtime}"
        seen: Counter[str] = Counter()
        for gate in item.gates:
            seen[gate.name] += 1
            again = f" {seen[gate.name]}" if seen[gate.name] > 1 else ""
            case = ElementTree.SubElement(
                suite, "testcase", classname=owner, name=gate.name + again
            )
            if gate.message:
                message = _NO_XML.sub("?", gate.message)
                failure = ElementTree.SubElement(case, "failure", message=message)
                failure.text = "{} where {} is the bound".format(*gate.shown)
    with replacing(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
