"""What a frame was calling, read from its bytecode: no source file is needed and none is opened.

A call of a C function has no frame of its own, so ``time.sleep`` is never on the stack. But the source
position of the instruction at which the caller stands covers the whole call expression, and the names that
make up the callee are loaded by instructions that begin at the same position. Only names are returned, never
arguments. Without positions (``-X no_debug_ranges``) nothing is returned.
"""

from __future__ import annotations

import dis
from itertools import takewhile
from types import CodeType

_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_VARIABLES = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF")


def call_at(code: CodeType, offset: int) -> str | None:
    """Name the call that ``code`` is in at ``offset``: ``json.loads``, ``import slow``; None outside one."""
    before = list(takewhile(lambda ins: ins.offset <= offset, dis.get_instructions(code)))
    if not before:
        return None
    here = before[-1]
    if here.opname == "IMPORT_NAME":
        return f"import {here.argval}"
    if not here.opname.startswith(("CALL", "PRECALL")):
        return None
    return _callee(before)


def _callee(before: list[dis.Instruction]) -> str | None:
    """Join the names loaded from where the call expression, the last of ``before``, begins."""
    call = before[-1].positions
    if call is None or call.lineno is None:
        return None
    names: list[str] = []
    for index, ins in enumerate(before):
        at = ins.positions
        if at is None or (at.lineno, at.col_offset) != (call.lineno, call.col_offset):
            continue
        if ins.opname.startswith("CALL") and ins is not before[-1]:
            # The callee is an attribute of what this call returned.
            names = ["super()"] if names == ["super"] else []
        elif ins.opname == "LOAD_SUPER_ATTR":  # since 3.12 in one instruction
            names = ["super()", str(ins.argval)]
        elif ins.opname in _ATTRIBUTES:
            names = [*(names or _operand(before, index)), str(ins.argval)]
        elif ins.opname.startswith(("BINARY_", "LOAD_SPECIAL")):
            names = []  # the callee is an item of something, or __enter__ of a with statement
        elif ins.opname == "LOAD_CONST":
            continue  # the text in "...".join(parts), or a keyword: not a name, and not to be shown
        elif ins.opname.startswith("LOAD_") and isinstance(ins.argval, str):
            names = [ins.argval]
    return ".".join(names) or None


def _operand(before: list[dis.Instruction], index: int) -> list[str]:
    """Name what the attribute at ``index`` is looked up on, if that is loaded right before it.

    Its source position differs from the call's when the call spans several lines, or when the compiler has
    merged two instructions into one.
    """
    ins = before[index - 1] if index else None
    if ins is not None and ins.opname in _ATTRIBUTES:
        return [*_operand(before, index - 1), str(ins.argval)]
    if ins is None or not ("LOAD_FAST" in ins.opname or ins.opname in _VARIABLES):
        return []
    return [str(ins.argval[-1] if isinstance(ins.argval, tuple) else ins.argval)]
