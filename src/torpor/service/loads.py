"""What an inspector of a node answers, for those who show it."""

from torpor.node.answers import AgentLoad, ByKind, Child, Look, NodeLoad, Owner, TaskStack, Top
from torpor.node.cgroups import Cgroup, Machine, Pressure, Pressures, Stall
from torpor.node.stacks import Spot

__all__ = [
    "AgentLoad",
    "ByKind",
    "Cgroup",
    "Child",
    "Look",
    "Machine",
    "NodeLoad",
    "Owner",
    "Pressure",
    "Pressures",
    "Spot",
    "Stall",
    "TaskStack",
    "Top",
]
