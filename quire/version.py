"""The version of Quire, written here only."""

__version__ = "0.1.0"
