"""The pages that are written from the source say what the source says."""

from __future__ import annotations

import runpy

import pytest

from tests.docs.blocks import ROOT

PAGES = runpy.run_path(str(ROOT / "docs/generate.py"))["pages"]()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_generated_page_is_up_to_date(page) -> None:
    assert page.read_text(encoding="utf-8") == PAGES[page], "run: python docs/generate.py"
