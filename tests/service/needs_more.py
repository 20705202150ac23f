"""A module of a user's whose own import fails."""

import no_such_package  # type: ignore[import-not-found]  # that is what it is for  # noqa: F401
