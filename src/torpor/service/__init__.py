"""The use cases: what people and programs ask of Torpor, and the only door for gateways."""

from torpor.service.service import Service
from torpor.service.views import (
    Briefed,
    BriefRequest,
    EventView,
    FileView,
    FoundView,
    Place,
    Progress,
    RunView,
    VerifyView,
)

__all__ = [
    "BriefRequest",
    "Briefed",
    "EventView",
    "FileView",
    "FoundView",
    "Place",
    "Progress",
    "RunView",
    "Service",
    "VerifyView",
]
