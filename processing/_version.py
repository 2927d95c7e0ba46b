"""The version of the package: setup.cfg, `stsun --version` and both packages read it here."""

__version__ = "0.1.0"
