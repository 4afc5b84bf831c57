"""Long work in a process of its own: messages, heartbeats, stop, and an error for every death."""

from ptychodus_ext.child.channel import Channel
from ptychodus_ext.child.failure import ChildError
from ptychodus_ext.child.messages import Done, Heartbeat, Log, Message, Output, Progress
from ptychodus_ext.child.run import ChildRun

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
