"""The use cases: what people and programs ask of Torpor, and the only door for gateways."""

from torpor.service.service import Service
from torpor.service.views import (
    Briefed,
    BriefRequest,
    EventView,
    FoundView,
    Place,
    RunView,
    VerifyView,
)
from torpor.skills.briefing.report import Progress
from torpor.workbook import FileStat

__all__ = [
    "BriefRequest",
    "Briefed",
    "EventView",
    "FileStat",
    "FoundView",
    "Place",
    "Progress",
    "RunView",
    "Service",
    "VerifyView",
]
