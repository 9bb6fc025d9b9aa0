"""The dump files that killed processes leave behind."""

import os
import sys
from pathlib import Path

import pytest

from loopwatch._watchdog.hold_dump import YOUNG, _tidy

if sys.platform != "win32":
    import fcntl


@pytest.mark.skipif(sys.platform == "win32", reason="files of ended processes stay there")
def test_only_empty_files_of_ended_processes_are_removed(tmp_path: Path) -> None:
    own = tmp_path / "loopwatch-1-own.dump"
    own.touch()
    born = own.stat().st_mtime
    for name, text, age in (
        ("loopwatch-2-killed.dump", "", YOUNG + 1),
        ("loopwatch-3-held.dump", "Timeout (0:00:05)!", YOUNG + 1),
        ("loopwatch-4-living.dump", "", YOUNG + 1),
        ("loopwatch-5-new.dump", "", 1.0),
        ("another-6.dump", "", YOUNG + 1),
    ):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (born - age, born - age))
    with own.open("rb") as file, (tmp_path / "loopwatch-4-living.dump").open("rb") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        _tidy(file)
    left = {path.name.split("-")[1] for path in tmp_path.iterdir()}
    assert left == {"1", "3", "4", "5", "6.dump"}
