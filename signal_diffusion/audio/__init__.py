"""Sound files and pipes: read, written, and given back in the form in which they came.

What is stored beside the samples belongs here, too: tags, chunks, bit rates, provenance.
Tables of readings are in `tables`; what is safe for every kind of file is in `files`.
"""

from signal_diffusion.audio.files import (
    Reader,
    Recording,
    Writer,
    check_output,
    opened,
    read,
    write,
    writing,
)
from signal_diffusion.audio.forms import CONTAINERS, Form, stored_form
from signal_diffusion.dsp.resampling import Resampler, resample
from signal_diffusion.files.atomic import remove_leftovers

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
