"""The face detector of our own: its data, network, training, judging and export."""
