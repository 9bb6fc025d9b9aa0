"""A document-analysis service that goes wrong on request: what ``loopwatch demo`` runs.

``POST /documents`` answers 202 at once and works in the background: one LLM call for each section of the
document, 2 MB of JSON to parse from each, a report compiled from them, the result in SQLite.

- ``app`` is the service; ``workflow`` the background work, built from ``llm``, ``answers``, ``store``,
  ``index`` and ``jobs``.
- ``settings`` holds its faults: mistakes that real services make, switched on one by one.
- ``standin`` plays the LLM and ``load`` the clients, each in a process of its own.
"""
