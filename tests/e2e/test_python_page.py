"""docs/python.md: every example on it runs as it stands, in order, in a process of its own, without Ray."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from tests.e2e.commands import ROOT, Desk
from tests.trained import picture, write_pictures

PAGE = ROOT / "docs" / "python.md"
RUN = """
import runpy

from tests.in_process import without_ray

with without_ray():
    runpy.run_path("page.py", run_name="__main__")
"""


@pytest.mark.slow
def test_the_examples_run_as_they_stand(desk: Desk) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    write_pictures(desk.work / "photos" / "train", 12)
    write_pictures(desk.work / "photos" / "test", 4, first_seed=100)
    Image.fromarray(picture("red", 1)).save(desk.work / "cat.jpg")
    (desk.work / "page.py").write_text("\n".join([*blocks, "print('the end')"]), encoding="utf-8")
    (desk.work / "run.py").write_text(RUN, encoding="utf-8")
    command = desk.start("run.py")
    ended = command.wait()
    assert (ended.code, ended.err) == (0, ""), ended
    assert ended.out.endswith("the end\n")
    assert command.left_behind() == []
