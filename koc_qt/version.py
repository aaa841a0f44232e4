"""The version of K.O.C., in one place."""

__version__ = "0.1.0"
