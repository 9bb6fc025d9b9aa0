"""What each key makes of where one is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loopwatch._cli.top.state import PAGES, State, press
from loopwatch._document import Document
from tests.unit.cli.top import made

HEIGHT = 10


def after(*pressed: str, document: Document | None = None, state: State | None = None) -> State:
    state = state or State()
    for key in pressed:
        state, wish = press(state, key, document or made.document(), HEIGHT)
        assert wish is None
    return state


def selected(state: State, document: Document | None = None) -> object:
    rows = state.rows(document or made.document())
    return rows[state.position(rows)]


def test_each_page_has_a_number_and_they_follow_each_other_in_a_ring() -> None:
    assert [after(str(at)).page for at in range(1, len(PAGES) + 1)] == list(PAGES)
    assert [after(*["tab"] * at).page for at in range(len(PAGES) + 1)] == [*PAGES, PAGES[0]]
    assert after("back tab").page == after("left").page == PAGES[-1]
    assert after("right").page == PAGES[1]


@pytest.mark.parametrize(("key", "wish"), [("q", "quit"), ("r", "fetch"), ("w", "worker")])
def test_some_keys_ask_for_something(key: str, wish: str) -> None:
    assert press(State(), key, None, HEIGHT) == (State(), wish)


def test_the_newest_stall_comes_first_and_is_selected_until_one_moves() -> None:
    state = after("2")
    assert selected(state) == made.stall(3, duration=0.2, in_progress=True)
    newer = made.document(stalls=(made.stall(3), made.stall(4)))
    assert selected(state, newer) == made.stall(4)


def test_who_has_moved_stays_with_the_row_wherever_it_goes() -> None:
    state = after("2", "down")
    assert selected(state) == made.stall(2, duration=0.9)
    more = made.document(stalls=tuple(made.stall(at) for at in range(1, 9)))
    assert selected(state, more).id == 2  # type: ignore[attr-defined]


def test_when_the_row_is_gone_the_one_in_its_place_is_selected() -> None:
    state = after("4", "down", "down")
    fewer = made.document(tasks=(made.task(8), made.task(9)))
    assert selected(state, fewer) == made.task(9)
    assert state.position([]) == 0


def test_movement_ends_at_the_ends() -> None:
    document = made.document(tasks=tuple(made.task(at) for at in range(50)))
    for keys, at in (
        (("up",), 0),
        (("down", "down", "k"), 1),
        (("j", "j", "j"), 3),
        (("page down",), HEIGHT),
        (("page down", "page down", "page up"), HEIGHT),
        (("end",), 49),
        (("G", "down"), 49),
        (("end", "home"), 0),
        (("end", "g"), 0),
    ):
        assert selected(after("4", *keys, document=document), document) == made.task(at), keys


def test_sorting_goes_through_the_columns_and_back_to_the_first_order() -> None:
    by_duration = after("2", "s", "s")
    assert [stall.duration for stall in by_duration.rows(made.document())] == [0.9, 0.45, 0.2]
    turned = after("S", state=by_duration)
    assert [stall.duration for stall in turned.rows(made.document())] == [0.2, 0.45, 0.9]
    state = after("2", *["s"] * 9)
    assert state.spot.order.column is None


def test_what_is_not_known_comes_last_whichever_way_it_is_sorted() -> None:
    document = made.document(sites=(made.site("a", 1, oldest=None), made.site("b", 2), made.site("c", 3)))
    state = after("3", *["s"] * 4, document=document)
    for keys in ((), ("S",)):
        assert after(*keys, state=state).rows(document)[-1].oldest is None


def test_a_filter_is_typed_kept_and_dropped() -> None:
    typed = after("4", "/", "j", "o", "b", "-", "2")
    assert typed.typing
    assert [task.name for task in typed.rows(made.document())] == ["job-2"]
    assert after("backspace", state=typed).spot.order.filter == "job-"
    kept = after("enter", state=typed)
    assert (kept.typing, kept.spot.order.filter) == (False, "job-2")
    assert after("esc", state=typed).spot.order.filter == ""
    assert after("esc", state=kept).spot.order.filter == ""


def test_each_word_of_a_filter_has_to_be_there_in_capitals_or_not() -> None:
    assert len(after("4", "/", "J", "O", "B", "space", "L", "o", "c", "k").rows(made.document())) == 3
    assert after("4", "/", "j", "o", "b", "space", "x").rows(made.document()) == []


def test_keys_of_the_program_are_letters_of_the_filter() -> None:
    state = after("4", "/", "q", "?", "1", "w")
    assert (state.typing, state.spot.order.filter, state.page) == (True, "q?1w", "tasks")
    assert len(after("4", "/", *["x"] * 500).spot.order.filter) < 100


def test_each_page_has_its_own_filter_and_order() -> None:
    state = after("4", "/", "x", "enter", "3", "s", "2")
    assert [state.spots[page].order.filter for page in ("tasks", "sites")] == ["x", ""]
    assert state.spots["sites"].order.column == 0
    assert state.spot.order.column is None


def test_enter_opens_the_row_and_esc_leads_back() -> None:
    opened = after("4", "down", "enter")
    assert opened.opened == made.task(2, age=60.0)
    assert after("down", "down", "up", state=opened).scrolled == 1
    back = after("esc", state=opened)
    assert (back.opened, back.scrolled) == (None, 0)
    assert selected(back) == made.task(2, age=60.0)


@pytest.mark.parametrize("page", range(2, len(PAGES) + 1))
def test_in_an_empty_list_no_key_does_any_harm(page: int) -> None:
    for document in (made.empty(), None):
        state = replace(State(), page=PAGES[page - 1])
        for key in ("up", "down", "end", "home", "page down", "enter", "s", "S", "/", "esc", "backspace"):
            state, _ = press(state, key, document, HEIGHT)
        assert state.opened is None


def test_help_comes_and_goes() -> None:
    assert after("?").helping
    assert not after("?", "?").helping
    assert not after("?", "esc").helping
    assert after("2", "?", "down").spot == after("2").spot


def test_freezing_is_undone_by_the_same_key() -> None:
    assert after("f").frozen
    assert not after("f", "space").frozen
