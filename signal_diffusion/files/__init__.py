"""Files written whole or not at all: atomic writing, journals of rows, archives, model files.

What a sound file or a table holds is the business of `audio` and `tables`.
Nothing here knows of signals.
"""
