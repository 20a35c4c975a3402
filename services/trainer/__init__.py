"""From FER2013, or faces of your own, to a model directory that the API serves."""
