"""Long work in processes of its own: messages, heartbeats, stop, and an error for every death."""

from ptychostream.children.messages import Done, Heartbeat, Log, Message, Output, Progress
from ptychostream.children.run import ChildGroup, ChildRun, Job
from ptychostream.children.serve import Channel
from ptychostream.children.supervisor import ChildError

__all__ = [
    "Channel",
    "ChildError",
    "ChildGroup",
    "ChildRun",
    "Done",
    "Heartbeat",
    "Job",
    "Log",
    "Message",
    "Output",
    "Progress",
]
