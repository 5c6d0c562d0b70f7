"""The `signal-diffusion` command. Heavy imports stay in functions, so that help is quick."""

from signal_diffusion.cli.app import app, main

__all__ = ["app", "main"]
