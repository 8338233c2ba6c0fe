"""What goes over HTTP: requests, answers, placements, filters, problems."""
