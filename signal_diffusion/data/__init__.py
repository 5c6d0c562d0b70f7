"""Batches to train on: corpora of recordings, mixers, crops and labels, of any domain.

What only one public corpus needs is in `data.sets`. Files are read by `audio` and `tables`,
losses are in `training`.
"""
