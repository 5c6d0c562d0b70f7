"""Public corpora: how they are laid out, split and turned into batches.

Each follows the corpus's own publication. What fits any corpus is in `data`.
Nothing here downloads unless it is asked to.
"""
