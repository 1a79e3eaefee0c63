"""The version, told once; pyproject.toml must agree (a test compares them)."""

__version__ = "0.2.0"
