"""The sandbox that agents and checks run in."""
