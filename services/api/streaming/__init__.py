"""Video: one session per connection, the newest frame first, faces that keep their identity."""
