"""The page of an evaluation: tables, charts, and examples to see and hear, in one HTML file.

It shows what `evaluation` found and computes no score. Templates lie beside it.
Single pictures of recordings are in `plots`.
"""
