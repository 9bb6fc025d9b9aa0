"""How much memory a process has allocated and not freed: exact to the byte, unlike resident memory.

Freed memory is not returned to the system but reused first, so half of a minute's leak may not show there.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile

COUNTED = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
"""Environment variables for the measured process. Blocks that a thread has freed and keeps in its cache would
count as allocated: 0.18 MiB per thread that has freed blocks of every size, as a busy machine may cause."""


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def allocated() -> float:
    """Return the MiB that the allocators of Python and of the C library have given out."""
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        said.seek(0)
        found = re.search(rb"# bytes in allocated blocks\s*=\s*([\d,]+)", said.read())
    assert found is not None
    mallinfo2 = ctypes.CDLL(None).mallinfo2  # glibc 2.33 and later
    mallinfo2.restype = _Mallinfo
    of_c = mallinfo2()
    return (int(found[1].replace(b",", b"")) + of_c.uordblks + of_c.hblkhd) / 2**20
