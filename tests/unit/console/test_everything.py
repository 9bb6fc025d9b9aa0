"""The document over the console: one line, as it was written, however wide the terminal is."""

from loopwatch._document import read

from .conftest import Desk


def test_json_is_the_document_in_one_line(full: Desk) -> None:
    answer = full.commands.run("json", width=40)
    assert "\n" not in answer
    found = read(answer.encode())
    assert found == full.source.document()
    assert found.tasks


def test_brief_says_less(full: Desk) -> None:
    assert read(full.commands.run("json brief").encode()) == full.source.document(brief=True)


def test_other_words_are_none(full: Desk) -> None:
    assert full.ask("json please") == "json, or json brief."
