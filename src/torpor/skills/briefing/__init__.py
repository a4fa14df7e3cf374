"""The briefing: an agent that reads feeds and remembers what it has read."""
