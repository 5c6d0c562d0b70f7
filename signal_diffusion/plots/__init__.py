"""Pictures of signals: spectrograms, curves of readings, windows of long recordings, grids.

Pictures of an evaluation are drawn by `report`. matplotlib loads when a picture is drawn.
Nothing here denoises.
"""
