"""The agents that ship in the box."""
