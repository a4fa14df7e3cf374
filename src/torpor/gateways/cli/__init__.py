"""The command line."""

from torpor.gateways.cli.app import build, run

__all__ = ["build", "run"]
