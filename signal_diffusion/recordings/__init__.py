"""Recordings in files and pipes: read, resample, write, giving back the form that came."""

from signal_diffusion.recordings.forms import CONTAINERS, Form, stored_form
from signal_diffusion.recordings.partials import remove_leftovers
from signal_diffusion.recordings.reading import Reader, Recording, opened, read
from signal_diffusion.recordings.resampling import Resampler, resample
from signal_diffusion.recordings.writing import Writer, check_output, write, writing

__all__ = [
    "CONTAINERS",
    "Form",
    "Reader",
    "Recording",
    "Resampler",
    "Writer",
    "check_output",
    "opened",
    "read",
    "remove_leftovers",
    "resample",
    "stored_form",
    "write",
    "writing",
]
