"""The one exception a user is meant to read."""


class UserError(Exception):
    """Something the user can put right: one line that names what was found, what was expected and the way out.

    Commands print it as ``error: ...`` and exit with status 2; the nodes log it and refuse the transition.
    """
