"""Long work in a process of its own: messages, heartbeats, stop, and an error for every death."""

from ptychostream.children.channel import Channel
from ptychostream.children.failure import ChildError
from ptychostream.children.messages import Done, Heartbeat, Log, Message, Output, Progress
from ptychostream.children.run import ChildRun

__all__ = [
    "Channel",
    "ChildError",
    "ChildRun",
    "Done",
    "Heartbeat",
    "Log",
    "Message",
    "Output",
    "Progress",
]
