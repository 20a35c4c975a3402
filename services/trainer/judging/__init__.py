"""How right a model is, how steady, and why."""
