"""What runs in a child process: ptychodus is not imported there, only ptychostream."""
