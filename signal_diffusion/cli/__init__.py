"""The `signal-diffusion` command: it parses options, shows progress and prints what was done.

What it does lies in `tasks`, `training` and `evaluation`: nothing is computed here. Heavy imports
stay in functions, so that help is quick.
"""

from signal_diffusion.cli.app import app, main

__all__ = ["app", "main"]
