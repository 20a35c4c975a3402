"""Video: one session a connection, the newest frame first, faces that keep their identity."""
