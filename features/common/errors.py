"""Errors that a person can act on."""


class InputError(Exception):
    """Bad input from a user: the message says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """
