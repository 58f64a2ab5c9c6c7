"""What a user can put right."""


class UserError(Exception):
    """A fault outside the code; ``str(error)`` is one line that says what to do, and what stages print."""
