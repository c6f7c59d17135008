"""The one error of the local stack."""


class LocalError(Exception):
    """Something the person at the terminal has to do; the text says what."""
