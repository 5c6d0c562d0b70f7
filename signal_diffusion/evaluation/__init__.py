"""Scores of estimates: pairs in, methods run, metrics and intervals out; benchmarks, memorisation.

It uses tasks as a user would. The metrics' own formulas are in `metrics`, the page that shows
results is in `report`, and scripts that fill the tables of the docs are in `benchmarks/`.
"""
