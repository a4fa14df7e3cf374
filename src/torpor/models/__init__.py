"""The models room: one seam, a model that needs nobody, and models behind HTTP.

`torpor.models.openai` is imported by itself, where a server is configured: it brings an HTTP
client.
"""

from torpor.models.local import Local
from torpor.models.seam import Model, Paired, Prompt, Reply, Task, Tier, Usage, Vectors
from torpor.models.sentences import split_sentences

__all__ = [
    "Local",
    "Model",
    "Paired",
    "Prompt",
    "Reply",
    "Task",
    "Tier",
    "Usage",
    "Vectors",
    "split_sentences",
]
