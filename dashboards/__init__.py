"""The dashboards and rules that are shipped, as code: ``build.py`` writes them out."""
