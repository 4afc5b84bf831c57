"""Which patterns of a scan form a group: by distance, quadrants, combinations or PtychoPINN's draws."""
