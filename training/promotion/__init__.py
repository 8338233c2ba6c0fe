"""From challenger to champion: comparison on one hold-out, and the gate."""
