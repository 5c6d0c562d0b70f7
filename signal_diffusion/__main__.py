"""`python -m signal_diffusion`, the same as the `signal-diffusion` command."""

from signal_diffusion.cli import main

if __name__ == "__main__":
    __spec__ = None  # Lightning starts further processes by file, not by this module's name
    main()
