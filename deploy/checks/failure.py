"""What a check says when it fails."""


class Failed(Exception):
    """A check that failed: which one, and what it found."""

    def __init__(self, check: str, found: str) -> None:
        super().__init__(f"{check}: {found}")
        self.check = check
        self.found = found
