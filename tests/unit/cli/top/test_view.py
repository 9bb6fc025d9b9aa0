"""What is drawn: everything that matters, within the screen, whatever the program calls its things."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.text import Text

from loopwatch._cli.top.history import History
from loopwatch._cli.top.sight import Sight
from loopwatch._cli.top.state import PAGES, State, press
from loopwatch._cli.top.view import draw, page_height
from loopwatch._document import Document
from loopwatch._records import Frame
from tests.unit.cli.top import made

SIZES = [(80, 24), (200, 60), (40, 10), (20, 5), (1, 1)]
EVIL = "\x1b[31mred\x1b]0;title\x07\n\r\x9b2J\u202eevil\u200b"


def sight(document: Document | None = None, **changes: Any) -> Sight:
    return replace(Sight("127.0.0.1:9464", document or made.document()), **changes)


def screen(*pressed: str, seen: Sight | None = None, width: int = 100, height: int = 30) -> list[Text]:
    seen, state = seen or sight(), State()
    for key in pressed:
        state, _ = press(state, key, seen.document, page_height(height))
    return draw(state, seen, width, height)


def text(*pressed: str, **how: Any) -> str:
    return "\n".join(line.plain for line in screen(*pressed, **how))


OPENED = [(str(at),) for at in range(1, len(PAGES) + 1)]
OPENED += [(str(at), "enter") for at in range(2, len(PAGES) + 1)] + [("?",), ("4", "/", "x"), ("4", "s", "f")]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("pressed", OPENED, ids="-".join)
def test_each_view_fits_the_screen(pressed: tuple[str, ...], size: tuple[int, int]) -> None:
    for seen in (sight(), sight(made.empty()), Sight("x" * 300), sight(problem="refused", age=9.0)):
        lines = screen(*pressed, seen=seen, width=size[0], height=size[1])
        assert len(lines) == size[1]
        assert max(line.cell_len for line in lines) <= size[0]


@pytest.mark.parametrize("pressed", OPENED, ids="-".join)
def test_names_cannot_reach_the_terminal(pressed: tuple[str, ...]) -> None:
    frame = Frame(EVIL, EVIL, f"/{EVIL}/{EVIL}", 1)
    names = {"context": {EVIL: EVIL}, "coroutine": EVIL}
    stall = made.stall(1, culprit=frame, call=EVIL, stack=(frame,), task_name=EVIL, loop_name=EVIL, **names)
    task = made.task(1, name=EVIL, site=frame, await_stack=(frame,), waiting_on=EVIL, **names)
    document = made.document(
        service_name=EVIL,
        loops=(made.loop(name=EVIL),),
        stalls=(stall, replace(stall, in_progress=True)),
        tasks=(task,),
        sites=(made.site(EVIL, 1),),
        lost=(made.lost(site=frame, exception=EVIL, task_name=EVIL, **names),),
        pools=(made.pool(EVIL),),
        findings=(made.finding(EVIL, summary=EVIL, fix=EVIL, docs_url=EVIL),),
        waits=(replace(made.document().waits[0], primitive=EVIL, tasks=(EVIL,), owners=(EVIL,), site=frame),),
    )
    seen = sight(document, target=EVIL, problem=EVIL)
    for line in screen(*pressed, seen=seen, width=200, height=60):
        assert line.plain.isprintable(), line.plain


def test_the_overview_shows_loops_findings_stalls_sites_and_pools() -> None:
    history = History()
    for at, busy in ((0.0, 0.0), (1.0, 0.25)):
        history.add(made.measured(at, (0, 0, 0), busy, at - busy))
    shown = " ".join(text(seen=sight(history=history)).split())
    for said in (
        "shop pid 77",
        "main (asyncio)",
        "25%",
        "max 450 ms in 60 s",
        "LW301 critical pool db is full",
        "shop.answers.Answer.parse json.loads cpu 3 1.55 s 900 ms",
        "shop.app.crawl",
        "db asyncpg 5 5 7 4.20 s",
    ):
        assert said in shown, said


def test_a_stall_that_goes_on_is_told_first_with_its_stack_and_its_culprit_marked() -> None:
    for width, height in ((80, 24), (200, 60)):
        shown = screen(width=width, height=height)
        at = next(at for at, line in enumerate(shown) if "has been stalled for 200 ms" in line.plain)
        assert "shop.answers.Answer.parse in json.loads" in shown[at].plain
        below = [line.plain.strip() for line in shown[at + 1 : at + 3]]
        assert below[0].startswith("shop.app.handle")
        assert below[1].startswith(">  shop.answers.Answer.parse")
        assert below[1].endswith("shop/answers.py:12")


def test_beside_a_stall_that_goes_on_a_small_screen_has_room_for_what_is_wrong() -> None:
    library = (Frame("read", "library", "/lib/library.py", 1),) * 9
    stall = made.stall(1, in_progress=True, stack=(made.PARSE, *library))
    shown = text(seen=sight(made.document(stalls=(stall,))), width=80, height=24)
    assert "has been stalled" in shown
    assert "LW301" in shown


def test_the_culprit_is_in_sight_however_deep_the_library_below_it() -> None:
    library = tuple(Frame(f"f{at}", "lib", "/lib/lib.py", at) for at in range(40))
    stall = made.stall(1, in_progress=True, stack=(made.PARSE, *library))
    assert "  >  shop.answers.Answer.parse" in text(seen=sight(made.document(stalls=(stall,))), height=24)


def test_a_list_shows_its_rows_and_marks_what_it_is_sorted_by() -> None:
    lines = screen("2")
    assert lines[2].plain.split() == ["began", "for", "cause", "culprit", "call", "loop", "task", "context"]
    assert "200 ms+" in lines[3].plain
    assert "reverse" in str(lines[3].style)
    assert "for v" in screen("2", "s", "s")[2].plain
    assert "for ^" in screen("2", "s", "s", "S")[2].plain


def test_where_there_is_no_room_spare_columns_go_before_names_are_cut() -> None:
    narrow, wide = screen("4", width=64), screen("4", width=200)
    assert "created by" in wide[2].plain
    assert "created by" not in narrow[2].plain
    assert "job-1" in narrow[3].plain


def test_the_selected_row_is_in_sight_in_a_long_list() -> None:
    document = made.document(tasks=tuple(made.task(at) for at in range(300)))
    for keys in (("down",) * 150, ("end",), ("page down",) * 4):
        shown = screen("4", *keys, seen=sight(document), height=24)
        assert [line for line in shown[3:] if "reverse" in str(line.style)], keys
    assert "job-299" in text("4", "end", seen=sight(document), height=24)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("2", ("main has been stalled for 200 ms: cpu", "request_id=r-17", "cpu 400 ms", ">  shop.answers")),
        ("3", ("tasks created by shop.app.crawl", "30, the oldest for 33.00 s", "of 100 created: 90 ok")),
        ("4", ("task job-1: work, pending", "Lock.acquire", ">  shop.app.handle", "asyncio/locks.py:5")),
        ("5", ("asyncpg db", "5 of 5", "7, the longest for 4.20 s", "holder", "9.00 s", "waiter", "4.00 s")),
        ("6", ("3 tasks wait in Lock.acquire", "job-1 (work)", "job-9 (work)")),
        ("7", ("lost, unretrieved_exception: store", "ValueError", "shop.app.handle at shop/app.py:42")),
        ("8", ("LW301 critical: pool db is full", "oldest_wait 4.20 s", "raise max_connections", "14 times")),
        ("9", ("drained for 8.00 s of 8.00 s: work was left", "1 abandoned", "job-92", "1 finished")),
    ],
)
def test_a_row_leads_to_all_that_is_known_of_it(page: str, said: tuple[str, ...]) -> None:
    shown = text(page, "enter")
    for each in said:
        assert each in shown, each


def test_what_follows_from_another_finding_says_so() -> None:
    assert "LW301, mend that first" in text("8", "down", "enter")


def test_details_of_what_is_gone_stay_and_say_so() -> None:
    seen = sight()
    state, _ = press(replace(State(), page="tasks"), "enter", seen.document, 20)
    gone = draw(state, sight(made.document(tasks=())), 100, 30)
    assert gone[2].plain.strip().startswith("It is gone")
    assert "task job-1" in gone[3].plain
    still = draw(state, sight(made.document(tasks=(made.task(1, age=45.0),))), 100, 30)
    assert any("45.00 s" in line.plain for line in still)


def test_a_long_text_is_scrolled_to_its_end_and_no_further() -> None:
    stack = tuple(Frame(f"f{at}", "shop", "/srv/shop.py", at) for at in range(60))
    seen = sight(made.document(stalls=(made.stall(1, stack=stack, culprit=stack[0]),)))
    end = text("2", "enter", "end", seen=seen, height=24)
    assert "shop.f59" in end
    assert "shop.f30" not in end
    assert text("2", "enter", "end", "down", seen=seen, height=24) == end


def test_whether_it_is_live_is_said() -> None:
    assert text().splitlines()[0].endswith("  live")
    assert text("f").splitlines()[0].endswith("FROZEN")
    dead = text(seen=sight(problem="connection refused", age=7.0))
    assert dead.splitlines()[0].endswith("NO ANSWER for 7.00 s")
    assert "connection refused; asking again" in dead
    assert "shop.app.crawl" in dead
    assert "9.00 s old" in text(seen=sight(age=9.0))
    assert "connection refused" in text(seen=Sight("x", problem="connection refused"))


def test_filters_are_shown_and_what_they_leave() -> None:
    assert "/job-2_" in text("4", "/", *"job-2")
    kept = text("4", "/", *"job-2", "enter")
    assert "only lines with 'job-2'" in kept
    assert "job-1" not in kept
    assert "No line has 'nobody' in it." in text("4", "/", *"nobody", "enter")


@pytest.mark.parametrize("page", range(2, len(PAGES) + 1))
def test_where_there_is_nothing_a_sentence_says_so(page: int) -> None:
    shown = text(str(page), seen=sight(made.empty()))
    assert next(line for line in shown.splitlines()[2:] if line.strip()).strip().endswith(".")


def test_workers_are_counted() -> None:
    assert "one of 3 workers" in text(seen=sight(made.document(workers=(76, 77, 78))))


def test_on_a_wide_screen_the_lists_stand_beside_each_other() -> None:
    shown = text(width=200, height=60)
    assert any("stalled by" in line and "asyncpg" not in line for line in shown.splitlines())
    assert any("LW" in line and "shop.app" in line for line in shown.splitlines())
