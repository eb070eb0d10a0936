"""The token that a cluster asks for."""

import os
from pathlib import Path


def show_token() -> None:
    """Have Ray show its token, where there is one and nothing else is asked for.

    A cluster that finds a token asks for it; a client does not show it by itself. To be called
    before Ray is imported.
    """
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if given or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
