"""Everything a ranker reads about visitors and items, the same in training and in serving.

Open `snapshot.py` first: what the shop knew at one instant, as arrays. `visitors.py` is a batch of visitors with the
events of their visits; `feature_matrix.py` turns both, with the scores of candidates, into the ranker's matrix, and
`session_features.py` computes its columns about the visit. `id_index.py` maps ids to positions, `pair_index.py` looks
up (query, item) pairs, `docs.py` writes docs/features.md.

May import `features.common`, `features.event_log` and `features.tables`.
"""
