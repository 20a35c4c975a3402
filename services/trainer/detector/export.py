"""`detector export`: a trained network to models/detector/, in the form that the service runs."""
