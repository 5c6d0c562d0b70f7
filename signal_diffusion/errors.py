"""The one error that a user can cause."""


class InputError(ValueError):
    """A mistake at a public door, told in one line: what, where, what is allowed, how to mend."""
