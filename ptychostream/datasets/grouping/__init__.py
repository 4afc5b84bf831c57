"""Which patterns form a group: by distance, quadrants, combinations or PtychoPINN's draws."""
