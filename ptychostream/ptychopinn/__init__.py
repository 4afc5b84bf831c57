"""What PtychoPINN's users call: workflows, backends, raw data, containers, dictionaries."""
