"""From trained weights to the model directory that the API loads."""
