"""What a run shows: plots, pages, model card, text."""
