"""The one kind of failure a user is meant to read."""

from __future__ import annotations


class LabError(Exception):
    """One sentence for the user: what is wrong, with which value, and what to do. Printed without a traceback."""
