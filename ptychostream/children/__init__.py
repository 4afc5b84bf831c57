"""Long work in processes of its own: messages, heartbeats, stop, and an error for every death."""

from ptychostream.children.child_error import ChildError
from ptychostream.children.messages import Done, Heartbeat, Log, Message, Output, Progress
from ptychostream.children.run import ChildGroup, ChildRun, Job
from ptychostream.children.serve import Channel

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
