"""Pages that retrain what the book stores, at a budget of next to nothing: the book itself never takes that way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rnnlab.book.script import script

BOOK = Path(__file__).parents[2] / "book"
PAGES = {
    "5_experiments/longer_sequences": {"updates": 20, "seeds": 1, "lengths": [50], "sequences": 10},
    "2_dynamics/fixed_points": {"snapshots": [1, 2], "starts": 5},
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_retrains_what_it_shows(page, tmp_path):
    (path := tmp_path / "page.py").write_text(script(BOOK / f"{page}.md", PAGES[page] | {"retrain": True}))
    command = [sys.executable, str(path), "--figures", str(tmp_path)]
    ran = subprocess.run(command, env=os.environ | {"RNNLAB_STORE": str(tmp_path)}, capture_output=True, text=True)
    assert not ran.returncode, ran.stderr[-2000:]
