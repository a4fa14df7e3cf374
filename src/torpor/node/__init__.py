"""The running process: agents as supervised actors, and what can be seen of them."""
