"""Networks: the dilated stack, its blocks, and transforms between signals and frames.

Schedules and targets are in the root, since networks know nothing of the process.
Losses are in `training`.
"""
