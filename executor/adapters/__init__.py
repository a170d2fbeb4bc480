"""The outside world, one module for each part of it; foreign exceptions are translated here."""
