"""A book that runs: from raw futures contracts to an honestly judged model."""

__version__ = "0.1.0"
