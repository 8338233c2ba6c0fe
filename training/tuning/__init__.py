"""Many recipes tried on one hold-out: `usual tune`."""
