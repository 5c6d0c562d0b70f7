"""Training: objectives, losses, the Lightning module, runs by configuration, speed.

Batches come from `data`. Lightning and Hydra load here and in `cli` only.
Networks are in `nn`.
"""
